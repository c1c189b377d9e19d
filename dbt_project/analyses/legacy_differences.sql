with ours as (

    select * from {{ ref('metric_values') }}
    where dimensions = '{}'

),

legacy as (

    select * from {{ ref('legacy_metrics') }}
    unpivot (
        legacy_value for metric in (
            total_nvlink_gb, peak_nvlink_gb_s, avg_nvlink_gb_s, burst_intensity, burst_duration_s,
            bw_usage_pct, prefill_avg_bw_gb_s, decode_avg_bw_gb_s, nccl_contribution_pct
        )
    )

),

final as (

    select
        legacy.trace_id,
        legacy.metric,
        ours.unit,
        ours.value,
        legacy.legacy_value,
        legacy.legacy_value / nullif(ours.value, 0) as ratio
    from legacy
    inner join ours on legacy.trace_id = ours.trace_id and legacy.metric = ours.metric  -- one row each
    where abs(legacy.legacy_value - ours.value) > {{ var('tolerance_pct', 1.0) }} / 100 * abs(ours.value)
    order by legacy.trace_id asc, legacy.metric asc

)

select * from final
