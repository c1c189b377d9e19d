with timeline as (

    select * from {{ ref('int_kernels__timeline') }}
    where comm_kernels > 0 or compute_kernels > 0

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

phases as (

    select * from {{ ref('int_comm__phases') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

-- every phase on every device, so that one without a kernel reads 0
spans as (

    select
        devices.device_no,
        phases.phase,
        phases.start_ns,
        phases.end_ns
    from phases
    inner join devices on phases.trace_no = devices.trace_no

),

lengths as (

    select
        device_no,
        phase,
        sum(end_ns - start_ns) as phase_ns
    from spans
    group by device_no, phase
    union all by name
    select
        devices.device_no,
        'all' as phase,
        windows.window_end_ns - windows.window_start_ns as phase_ns
    from devices
    inner join windows on devices.trace_no = windows.trace_no

),

shared as (

    {{ interval_intersection('timeline', 'spans', ['device_no'], ['comm_kernels', 'compute_kernels'], ['phase']) }}

),

pieces as (

    select * from shared
    union all by name
    select
        device_no,
        comm_kernels,
        compute_kernels,
        'all' as phase,
        start_ns,
        end_ns
    from timeline

),

summed as (

    select
        device_no,
        phase,
        sum(end_ns - start_ns) filter (where comm_kernels > 0) as comm_ns,
        sum(end_ns - start_ns) filter (where compute_kernels > 0) as compute_ns,
        sum(end_ns - start_ns) filter (where comm_kernels > 0 and compute_kernels > 0) as overlapped_ns
    from pieces
    group by device_no, phase

),

final as (

    select
        devices.trace_no,
        lengths.device_no,
        lengths.phase,
        lengths.phase_ns,
        coalesce(summed.comm_ns, 0) as comm_ns,
        coalesce(summed.compute_ns, 0) as compute_ns,
        coalesce(summed.overlapped_ns, 0) as overlapped_ns
    from lengths
    inner join devices on lengths.device_no = devices.device_no
    left join summed on lengths.device_no = summed.device_no and lengths.phase = summed.phase

)

select * from final
