with executions as (

    select * from {{ ref('int_kernels__executions') }}

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

-- the window itself counts as nothing, but makes idle time a piece like any other
spans as (

    select
        device_no,
        start_ns,
        end_ns,
        is_comm,
        not is_comm as is_compute,
        is_nccl
    from executions
    union all by name
    select
        devices.device_no,
        windows.window_start_ns as start_ns,
        windows.window_end_ns as end_ns,
        false as is_comm,
        false as is_compute,
        false as is_nccl
    from devices
    inner join windows on devices.trace_no = windows.trace_no

),

final as (

    {{ interval_counts(
        'spans', ['device_no'],
        {'comm_kernels': 'is_comm', 'compute_kernels': 'is_compute', 'nccl_kernels': 'is_nccl'}
    ) }}

)

select * from final
