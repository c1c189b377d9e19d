with phases as (

    select * from {{ ref('int_phase__windows') }}

),

covered as (

    select * from {{ ref('int_kernels__coverage') }}

),

summed as (

    select
        phases.trace_no,
        phases.phase,
        sum(ends.active_ns - starts.active_ns) as active_ns,
        sum(ends.comm_ns - starts.comm_ns) as comm_ns,
        sum(ends.hidden_ns - starts.hidden_ns) as hidden_ns
    from phases
    -- one row an instant and device on both sides
    inner join covered as starts on phases.trace_no = starts.trace_no and phases.start_ns = starts.at_ns
    inner join covered as ends
        on
            phases.trace_no = ends.trace_no
            and phases.end_ns = ends.at_ns
            and starts.device = ends.device
    group by phases.trace_no, phases.phase

),

wanted as (

    select distinct
        trace_no,
        phase
    from phases

),

final as (

    select
        wanted.trace_no,
        wanted.phase,
        case when summed.hidden_ns = 0 then summed.active_ns / 1e9 end as gpu_active_s,
        case when summed.hidden_ns = 0 then 100 * summed.comm_ns / nullif(summed.active_ns, 0) end as comm_share_pct,
        case
            when summed.phase is null then 'the trace has no kernel timeline (nsys or Kineto)'
            when summed.hidden_ns > 0
                then 'CUDA graphs were traced as a whole: the kernels inside them are invisible'
            when summed.active_ns = 0 then 'no kernel ran in the phase'
        end as comm_reason
    from wanted
    left join summed on wanted.trace_no = summed.trace_no and wanted.phase = summed.phase

)

select * from final
