with buckets as (

    select * from {{ ref('int_nvlink__buckets') }}
    where gb_s > {{ var('burst_threshold_gb_s') }}

),

phases as (

    select * from {{ ref('int_phase__windows') }}
    where phase <> 'step'

),

-- neighbours share the difference of their number and their rank
numbered as (

    select
        *,
        bucket - row_number() over (partition by trace_no, gpu_index order by bucket) as island
    from buckets

),

runs as (

    select
        trace_no,
        trace_id,
        gpu_index,
        min(start_ns) as start_ns,
        max(end_ns) as end_ns,
        cast(sum(bytes) as bigint) as bytes,
        max(gb_s) as peak_gb_s
    from numbered
    group by trace_no, trace_id, gpu_index, island

),

covers as (

    select
        runs.trace_no,
        runs.gpu_index,
        runs.start_ns,
        phases.phase,
        sum(least(runs.end_ns, phases.end_ns) - greatest(runs.start_ns, phases.start_ns)) as overlap_ns
    from runs
    inner join phases
        on runs.trace_no = phases.trace_no and runs.end_ns > phases.start_ns and runs.start_ns < phases.end_ns
    group by runs.trace_no, runs.gpu_index, runs.start_ns, phases.phase

),

main_phases as (

    select
        trace_no,
        gpu_index,
        start_ns,
        arg_max(phase, overlap_ns) as phase
    from covers
    group by trace_no, gpu_index, start_ns

),

final as (

    select
        runs.trace_id,
        runs.gpu_index,
        row_number() over (partition by runs.trace_no, runs.gpu_index order by runs.start_ns) as burst,
        runs.start_ns,
        runs.end_ns,
        (runs.end_ns - runs.start_ns) / 1e9 as duration_s,
        runs.bytes,
        runs.bytes / cast(runs.end_ns - runs.start_ns as double) as avg_gb_s,
        runs.peak_gb_s,
        main_phases.phase
    from runs
    left join main_phases
        on
            runs.trace_no = main_phases.trace_no
            and runs.gpu_index = main_phases.gpu_index
            and runs.start_ns = main_phases.start_ns

)

select * from final
