-- The totals are the timeline's, a burst is part of it, and phases that exclude each other share it out.
with metrics as (

    select
        trace_id,
        total_nvlink_gb,
        window_s
    from {{ ref('experiment_metrics') }}
    where {{ pending_filter('trace_id') }} and polled_gpus > 0 and total_nvlink_gb is not null

),

timeline as (

    select
        trace_id,
        sum(bytes) / 1e9 as gb
    from {{ ref('nvlink_bandwidth') }}
    where {{ pending_filter('trace_id') }}
    group by trace_id

),

bursts as (

    select
        trace_id,
        sum(bytes) / 1e9 as gb
    from {{ ref('nvlink_bursts') }}
    where {{ pending_filter('trace_id') }}
    group by trace_id

),

phases as (

    select
        trace_id,
        sum(nvlink_gb) as gb,
        sum(phase_s) as phase_s
    from {{ ref('phase_intensity') }}
    where {{ pending_filter('trace_id') }} and phase in ('prefill', 'decode', 'mixed')
    group by trace_id

)

select
    metrics.*,
    timeline.gb as timeline_gb,
    bursts.gb as burst_gb,
    phases.gb as phase_gb,
    phases.phase_s
from metrics
left join timeline on metrics.trace_id = timeline.trace_id
left join bursts on metrics.trace_id = bursts.trace_id
left join phases on metrics.trace_id = phases.trace_id
where
    abs(metrics.total_nvlink_gb - coalesce(timeline.gb, 0)) > 1e-9 * (1 + metrics.total_nvlink_gb)
    or bursts.gb > metrics.total_nvlink_gb * 1.000001
    or phases.gb > metrics.total_nvlink_gb * 1.000001
    or phases.phase_s > metrics.window_s * 1.000001
