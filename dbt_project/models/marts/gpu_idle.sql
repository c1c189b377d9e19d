with timeline as (

    select * from {{ ref('int_kernels__timeline') }}

),

executions as (

    select * from {{ ref('int_kernels__executions') }}

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

totals as (

    select * from {{ ref('int_comm__totals') }}

),

gaps as (

    select
        device_no,
        start_ns,
        end_ns
    from timeline
    where comm_kernels = 0 and compute_kernels = 0

),

-- the host's part is told by the kernel that ends the gap; of several the one launched first
launched as (

    select
        gaps.device_no,
        gaps.start_ns,
        gaps.end_ns,
        min(executions.launch_ns) as launch_ns
    from gaps
    left join executions on gaps.device_no = executions.device_no and gaps.end_ns = executions.start_ns
    group by gaps.device_no, gaps.start_ns, gaps.end_ns

),

waits as (

    select
        device_no,
        count(*) as gaps,
        sum(end_ns - start_ns) as gap_ns,
        coalesce(sum(end_ns - start_ns) filter (where launch_ns >= start_ns), 0) as host_ns,
        max(end_ns - start_ns) as longest_ns
    from launched
    group by device_no

),

known as (

    select
        device_no,
        bool_or(launch_ns is not null) as has_launches
    from executions
    group by device_no

),

states as (

    select
        device_no,
        sum(end_ns - start_ns) as window_ns,
        coalesce(sum(end_ns - start_ns) filter (where compute_kernels > 0), 0) as compute_ns,
        coalesce(sum(end_ns - start_ns) filter (where comm_kernels > 0 and compute_kernels = 0), 0) as comm_ns
    from timeline
    group by device_no

),

judged as (

    select
        devices.trace_id,
        devices.device,
        devices.gpu_index,
        states.window_ns,
        totals.comm_reason is null as is_known,
        totals.comm_reason is null and known.has_launches as is_split,
        states.compute_ns,
        states.comm_ns,
        coalesce(waits.gaps, 0) as gaps,
        coalesce(waits.gap_ns, 0) as gap_ns,
        coalesce(waits.host_ns, 0) as host_ns,
        coalesce(waits.longest_ns, 0) as longest_ns,
        coalesce(
            totals.comm_reason,
            case when not known.has_launches then 'no kernel has a launch call: host time cannot be told from other' end
        ) as reason
    from states
    inner join devices on states.device_no = devices.device_no
    inner join totals on devices.trace_no = totals.trace_no
    inner join known on states.device_no = known.device_no
    left join waits on states.device_no = waits.device_no

),

final as (

    select
        trace_id,
        device,
        gpu_index,
        window_ns / 1e9 as window_s,
        case when is_known then (window_ns - compute_ns) / 1e9 end as idle_s,
        case when is_known then 100 * (window_ns - compute_ns) / cast(window_ns as double) end as idle_pct,
        case when is_split then host_ns / 1e9 end as host_wait_s,
        case when is_known then comm_ns / 1e9 end as comm_wait_s,
        case when is_split then (gap_ns - host_ns) / 1e9 end as other_s,
        case when is_known then gaps end as gaps,
        case when is_known then longest_ns / 1e9 end as longest_gap_s,
        reason
    from judged

)

select * from final
