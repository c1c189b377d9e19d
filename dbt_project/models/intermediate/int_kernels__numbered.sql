{{ config(materialized='view') }}

-- a view: two models look at kernels, each at other ones
with kernels as (

    select
        *,
        case when gpu_index is null then pid end as own_pid,
        case when gpu_index is null then device_id end as own_device_id
    from {{ ref('stg_gpu_kernels') }}
    where {{ pending_filter('trace_id') }}

),

names as (

    select * from {{ ref('int_kernels__names') }}

),

kinds as (

    select * from {{ ref('int_kernels__kinds') }}

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

final as (

    select
        devices.trace_no,
        devices.device_no,
        names.kernel_no,
        kinds.collective_no,
        kinds.is_comm,
        kinds.is_nccl,
        kernels.start_ns,
        kernels.end_ns,
        kernels.launch_ns
    from kernels
    -- one row a pair of names, one a kind, one a device
    inner join names
        on kernels.kernel_name = names.kernel_name and kernels.demangled_name = names.demangled_name
    inner join kinds on names.kernel_no = kinds.kernel_no
    inner join devices
        on
            kernels.trace_id = devices.trace_id
            and kernels.gpu_index is not distinct from devices.gpu_index
            and kernels.own_pid is not distinct from devices.pid
            and kernels.own_device_id is not distinct from devices.device_id

)

select * from final
