with bursts as (

    select
        devices.device_no,
        bursts.burst,
        bursts.start_ns,
        bursts.end_ns
    from {{ ref('int_burst__spans') }} as bursts
    -- one device a polled GPU that ran kernels
    inner join {{ ref('int_kernels__devices') }} as devices
        on bursts.trace_no = devices.trace_no and bursts.gpu_index = devices.gpu_index

),

executions as (

    select * from {{ ref('int_kernels__executions') }}

),

shared as (

    {{ interval_intersection('executions', 'bursts', ['device_no'], ['kernel_no'], ['burst']) }}

),

marked as (

    select
        *,
        {{ previous_end_ns('end_ns', 'device_no, burst, kernel_no', 'start_ns, end_ns') }} as before_ns
    from shared

),

final as (

    select
        device_no,
        burst,
        kernel_no,
        count(*) as executions,
        cast(sum({{ uncovered_ns('start_ns', 'end_ns', 'before_ns') }}) as bigint) as overlap_ns
    from marked
    group by device_no, burst, kernel_no

)

select * from final
