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

edges as (

    select
        trace_no,
        unnest([start_ns, end_ns]) as at_ns
    from {{ ref('int_training__steps') }}

),

-- of traces with steps only: others' kernels need not be gone through again
wanted as (

    select devices.* from devices
    semi join edges on devices.trace_no = edges.trace_no

),

-- not cut to the profile window: a step is told whole
spans as (

    select
        wanted.device_no,
        kernels.start_ns,
        kernels.end_ns,
        true as active,
        kinds.is_comm as comm,
        not kinds.is_comm as compute
    from kernels
    -- one row a pair of names, one a kind, one a device
    inner join names
        on kernels.kernel_name = names.kernel_name and kernels.demangled_name = names.demangled_name
    inner join kinds on names.kernel_no = kinds.kernel_no
    inner join wanted
        on
            kernels.trace_id = wanted.trace_id
            and kernels.gpu_index is not distinct from wanted.gpu_index
            and kernels.own_pid is not distinct from wanted.pid
            and kernels.own_device_id is not distinct from wanted.device_id

),

instants as (

    select distinct
        wanted.device_no,
        edges.at_ns
    from wanted
    inner join edges on wanted.trace_no = edges.trace_no

),

final as (

    {{ covered_until('spans', 'instants', ['device_no'], ['active', 'comm', 'compute']) }}

)

select * from final
