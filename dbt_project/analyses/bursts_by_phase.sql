with bursts as (

    select * from {{ ref('nvlink_bursts') }}

),

final as (

    select
        trace_id,
        phase,
        count(*) as bursts,
        sum(bytes) / 1e9 as nvlink_gb,
        1e3 * median(duration_s) as median_ms,
        1e3 * quantile_cont(duration_s, 0.99) as p99_ms,
        1e3 * max(duration_s) as longest_ms,
        1e3 * median(gap_s) as median_gap_ms,
        max(peak_gb_s) as peak_gb_s
    from bursts
    group by trace_id, phase
    order by trace_id asc, nvlink_gb desc

)

select * from final
