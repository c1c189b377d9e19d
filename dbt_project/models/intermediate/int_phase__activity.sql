with phases as (

    select * from {{ ref('int_phase__windows') }}

),

-- a graph that was traced as a whole hides its kernels
covered as (

    select * from {{ ref('int_kernels__hidden') }}

),

kernels as (

    select
        trace_no,
        phase,
        sum(comm_ns) as comm_ns,
        sum(comm_ns + compute_ns - overlapped_ns) as active_ns
    from {{ ref('int_comm__by_phase') }}
    group by trace_no, phase

),

graphs as (

    select
        phases.trace_no,
        phases.phase,
        sum(ends.hidden_ns - starts.hidden_ns) as hidden_ns
    from phases
    -- one row an instant on both sides
    inner join covered as starts on phases.trace_no = starts.trace_no and phases.start_ns = starts.at_ns
    inner join covered as ends on phases.trace_no = ends.trace_no and phases.end_ns = ends.at_ns
    group by phases.trace_no, phases.phase

),

wanted as (

    select distinct
        trace_no,
        phase
    from phases

),

judged as (

    select
        wanted.trace_no,
        wanted.phase,
        kernels.active_ns,
        kernels.comm_ns,
        coalesce(graphs.hidden_ns > 0, false) as is_hidden,
        case
            when graphs.hidden_ns > 0
                then 'CUDA graphs were traced as a whole: the kernels inside them are invisible'
            when kernels.phase is null then 'the trace has no kernel timeline (nsys or Kineto)'
            when kernels.active_ns = 0 then 'no kernel ran in the phase'
        end as comm_reason
    from wanted
    left join kernels on wanted.trace_no = kernels.trace_no and wanted.phase = kernels.phase
    left join graphs on wanted.trace_no = graphs.trace_no and wanted.phase = graphs.phase

),

final as (

    select
        trace_no,
        phase,
        case when not is_hidden then active_ns / 1e9 end as gpu_active_s,
        case when comm_reason is null then cast(100 * comm_ns as double) / active_ns end as comm_share_pct,
        comm_reason
    from judged

)

select * from final
