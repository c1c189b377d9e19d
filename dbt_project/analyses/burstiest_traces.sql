with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

bursts as (

    select
        trace_id,
        count(*) as bursts,
        sum(bytes) as burst_bytes,
        1e3 * median(duration_s) as median_burst_ms,
        max(bytes) / 1e9 as largest_burst_gb
    from {{ ref('nvlink_bursts') }}
    group by trace_id

),

final as (

    select
        metrics.trace_id,
        metrics.backend,
        metrics.tp,
        coalesce(bursts.bursts, 0) as bursts,
        100 * metrics.burst_duration_s / metrics.window_s as burst_time_pct,
        100 * coalesce(bursts.burst_bytes, 0) / nullif(1e9 * metrics.total_nvlink_gb, 0) as burst_bytes_pct,
        metrics.burst_intensity,
        metrics.peak_nvlink_gb_s,
        bursts.median_burst_ms,
        bursts.largest_burst_gb
    from metrics
    left join bursts on metrics.trace_id = bursts.trace_id  -- at most one row a trace
    where metrics.burst_duration_s is not null
    order by burst_time_pct desc, metrics.trace_id asc
    limit {{ var('top', 20) }}

)

select * from final
