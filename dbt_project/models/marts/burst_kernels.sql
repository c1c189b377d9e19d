{{ config(partitioned_by='trace_id') }}

with bursts as (

    select * from {{ ref('int_burst__spans') }}

),

kernels as (

    select * from {{ ref('int_burst__kernels') }}

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

kinds as (

    select * from {{ ref('int_kernels__kinds') }}

),

final as (

    select
        bursts.trace_id,
        bursts.gpu_index,
        bursts.burst,
        kinds.kernel_name,
        kinds.class,
        kinds.library,
        kinds.collective,
        kernels.executions,
        kernels.overlap_ns,
        100 * kernels.overlap_ns / cast(bursts.end_ns - bursts.start_ns as double) as share_pct
    from kernels
    inner join devices on kernels.device_no = devices.device_no
    inner join kinds on kernels.kernel_no = kinds.kernel_no
    inner join bursts
        on
            devices.trace_no = bursts.trace_no
            and devices.gpu_index = bursts.gpu_index
            and kernels.burst = bursts.burst

)

select * from final
