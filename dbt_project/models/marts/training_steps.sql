with steps as (

    select * from {{ ref('int_training__steps') }}

),

workers as (

    select * from {{ ref('int_kernels__workers') }}

),

covered as (

    select * from {{ ref('int_kernels__coverage') }}

),

hidden as (

    select * from {{ ref('int_kernels__hidden') }}

),

activity as (

    select
        steps.trace_no,
        steps.worker,
        steps.step,
        count(*) as devices,
        sum(ends.active_ns - starts.active_ns) as gpu_active_ns,
        sum(ends.comm_ns - starts.comm_ns) as comm_ns,
        sum(ends.compute_ns - starts.compute_ns) as compute_ns
    from steps
    -- a worker may drive several devices
    inner join workers on steps.trace_no = workers.trace_no and steps.worker = workers.worker
    -- one row an instant and device on both sides
    inner join covered as starts
        on
            workers.device_no = starts.device_no
            and steps.start_ns = starts.at_ns
    inner join covered as ends on workers.device_no = ends.device_no and steps.end_ns = ends.at_ns
    group by steps.trace_no, steps.worker, steps.step

),

judged as (

    select
        steps.*,
        activity.devices,
        activity.gpu_active_ns,
        activity.compute_ns,
        activity.comm_ns,
        case
            when ends.hidden_ns > starts.hidden_ns
                then 'CUDA graphs were traced as a whole: the kernels inside them are invisible'
            when activity.step is null then 'no kernel of the trace belongs to this rank or process'
        end as gpu_reason
    from steps
    left join activity
        on
            steps.trace_no = activity.trace_no
            and steps.worker = activity.worker
            and steps.step = activity.step
    -- at most one row an instant
    left join hidden as starts on steps.trace_no = starts.trace_no and steps.start_ns = starts.at_ns
    left join hidden as ends on steps.trace_no = ends.trace_no and steps.end_ns = ends.at_ns

),

known as (

    select
        * exclude (gpu_active_ns, compute_ns, comm_ns),
        case when gpu_reason is null then gpu_active_ns end as gpu_active_ns,
        case when gpu_reason is null then compute_ns end as compute_ns,
        case when gpu_reason is null then comm_ns end as comm_ns,
        -- |A and B| = |A| + |B| - |A or B|
        case when gpu_reason is null then comm_ns + compute_ns - gpu_active_ns end as overlap_ns
    from judged

),

-- all ranks wait in the collectives for the slowest: what it does outside of them tells it from the others
worked as (

    select
        *,
        step_ns - (comm_ns - overlap_ns) / devices as work_ns
    from known

),

compared as (

    select
        *,
        case when count(*) over a_step > 1 then step_ns / median(step_ns) over a_step end as ratio_to_median,
        case
            when count(work_ns) over a_step > 1 then work_ns / nullif(median(work_ns) over a_step, 0)
        end as work_ratio_to_median
    from worked
    window a_step as (partition by trace_no, step_name, occurrence)

),

final as (

    select
        trace_id,
        worker,
        rank,
        pid,
        step,
        step_name,
        start_ns,
        end_ns,
        is_in_window,
        step_ns,
        forward_ns,
        backward_ns,
        optimizer_ns,
        cast(gpu_active_ns as bigint) as gpu_active_ns,
        cast(compute_ns as bigint) as compute_ns,
        cast(comm_ns as bigint) as comm_ns,
        cast(overlap_ns as bigint) as overlap_ns,
        cast(comm_ns - overlap_ns as bigint) as exposed_comm_ns,
        cast(100 * overlap_ns / nullif(comm_ns, 0) as double) as overlap_pct,
        gpu_reason,
        cast(ratio_to_median as double) as ratio_to_median,
        cast(work_ratio_to_median as double) as work_ratio_to_median,
        greatest(ratio_to_median, work_ratio_to_median) > {{ var('straggler_ratio') }} as is_straggler
    from compared

)

select * from final
