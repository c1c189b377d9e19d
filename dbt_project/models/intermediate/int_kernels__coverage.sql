with kernels as (

    select * from {{ ref('int_kernels__numbered') }}

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
        kernels.device_no,
        kernels.start_ns,
        kernels.end_ns,
        true as active,
        kernels.is_comm as comm,
        not kernels.is_comm as compute
    from kernels
    semi join wanted on kernels.device_no = wanted.device_no

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
