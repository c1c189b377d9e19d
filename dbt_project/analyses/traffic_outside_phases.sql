with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

-- a step holds its forward, backward and optimizer: counted with them it would count twice
phases as (

    select
        trace_id,
        any_value(phase_source) as phase_source,
        sum(nvlink_gb) as phases_gb,
        sum(phase_s) as phases_s
    from {{ ref('phase_intensity') }}
    where phase <> 'step'
    group by trace_id

),

final as (

    select
        metrics.trace_id,
        phases.phase_source,
        metrics.total_nvlink_gb,
        phases.phases_gb,
        metrics.total_nvlink_gb - phases.phases_gb as outside_gb,
        100 * (metrics.total_nvlink_gb - phases.phases_gb) / nullif(metrics.total_nvlink_gb, 0) as outside_pct,
        metrics.window_s,
        metrics.window_s - phases.phases_s as outside_s
    from metrics
    inner join phases on metrics.trace_id = phases.trace_id  -- one row a trace
    where phases.phases_gb is not null
    order by outside_gb desc, metrics.trace_id asc

)

select * from final
