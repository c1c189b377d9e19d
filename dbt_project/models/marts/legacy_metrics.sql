with source as (

    select * from {{ ref('int_legacy__totals') }}

),

final as (

    select
        cast(trace_id as varchar) as trace_id,
        cast(total_nvlink_gb as double) as total_nvlink_gb,
        cast(peak_nvlink_gb_s as double) as peak_nvlink_gb_s,
        cast(avg_nvlink_gb_s as double) as avg_nvlink_gb_s,
        cast(burst_intensity as double) as burst_intensity,
        cast(burst_duration_s as double) as burst_duration_s,
        cast(bw_usage_pct as double) as bw_usage_pct,
        cast(prefill_avg_bw_gb_s as double) as prefill_avg_bw_gb_s,
        cast(decode_avg_bw_gb_s as double) as decode_avg_bw_gb_s,
        cast(nccl_contribution_pct as double) as nccl_contribution_pct
    from source

)

select * from final
