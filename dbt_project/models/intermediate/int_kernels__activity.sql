with executions as (

    select * from {{ ref('int_kernels__executions') }}

),

kinds as (

    select * from {{ ref('int_kernels__kinds') }}

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

timeline as (

    select * from {{ ref('int_kernels__timeline') }}

),

by_kind as (

    select
        device_no,
        kernel_no,
        count(*) as kernels,
        sum(end_ns - start_ns) as kernel_ns,
        sum(whole_ns) as whole_ns
    from executions
    group by device_no, kernel_no

),

plain as (

    select
        by_kind.device_no,
        sum(by_kind.kernels) as kernels,
        coalesce(sum(by_kind.kernels) filter (where kinds.is_comm), 0) as comm_kernels,
        sum(by_kind.kernel_ns) as kernel_ns,
        coalesce(sum(by_kind.kernel_ns) filter (where kinds.is_nccl), 0) as nccl_kernel_ns,
        sum(by_kind.whole_ns) as legacy_kernel_ns,
        coalesce(sum(by_kind.whole_ns) filter (where contains(kinds.kernel_name, 'nccl')), 0) as legacy_nccl_ns
    from by_kind
    inner join kinds on by_kind.kernel_no = kinds.kernel_no
    group by by_kind.device_no

),

unions as (

    select
        device_no,
        coalesce(sum(end_ns - start_ns) filter (where comm_kernels > 0 or compute_kernels > 0), 0) as active_ns,
        coalesce(sum(end_ns - start_ns) filter (where comm_kernels > 0), 0) as comm_ns,
        coalesce(sum(end_ns - start_ns) filter (where nccl_kernels > 0), 0) as nccl_ns,
        coalesce(sum(end_ns - start_ns) filter (where compute_kernels > 0), 0) as compute_ns
    from timeline
    group by device_no

),

final as (

    select
        devices.trace_no,
        devices.trace_id,
        devices.device,
        cast(plain.kernels as bigint) as kernels,
        cast(plain.comm_kernels as bigint) as comm_kernels,
        cast(unions.active_ns as bigint) as active_ns,
        cast(unions.comm_ns as bigint) as comm_ns,
        cast(unions.nccl_ns as bigint) as nccl_ns,
        cast(unions.compute_ns as bigint) as compute_ns,
        cast(plain.kernel_ns as bigint) as kernel_ns,
        cast(plain.nccl_kernel_ns as bigint) as nccl_kernel_ns,
        cast(plain.legacy_kernel_ns as bigint) as legacy_kernel_ns,
        cast(plain.legacy_nccl_ns as bigint) as legacy_nccl_ns
    from plain
    inner join unions on plain.device_no = unions.device_no
    inner join devices on plain.device_no = devices.device_no

)

select * from final
