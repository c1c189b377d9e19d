with bursts as (

    select * from {{ ref('int_burst__spans') }}

),

kernels as (

    select * from {{ ref('int_burst__kernels') }}

),

kinds as (

    select * from {{ ref('int_kernels__kinds') }}

),

totals as (

    select * from {{ ref('int_comm__totals') }}

),

-- GPUs whose kernels are all in the trace
devices as (

    select
        devices.device_no,
        devices.trace_no,
        devices.gpu_index
    from {{ ref('int_kernels__devices') }} as devices
    inner join totals on devices.trace_no = totals.trace_no
    where devices.gpu_index is not null and totals.comm_reason is null

),

comm_time as (

    select * from {{ ref('int_kernels__timeline') }}
    where comm_kernels > 0

),

placed as (

    select
        devices.device_no,
        bursts.burst,
        bursts.start_ns,
        bursts.end_ns
    from bursts
    inner join devices on bursts.trace_no = devices.trace_no and bursts.gpu_index = devices.gpu_index

),

communicating as (

    {{ interval_intersection('comm_time', 'placed', ['device_no'], [], ['burst']) }}

),

comm as (

    select
        device_no,
        burst,
        sum(end_ns - start_ns) as comm_ns
    from communicating
    group by device_no, burst

),

top_kernels as (

    select
        kernels.device_no,
        kernels.burst,
        -- of equals the first by name
        arg_min(
            struct_pack(kernel_name := kinds.kernel_name, overlap_ns := kernels.overlap_ns),
            row(-kernels.overlap_ns, kinds.kernel_name, kernels.kernel_no)
        ) as top
    from kernels
    inner join kinds on kernels.kernel_no = kinds.kernel_no
    group by kernels.device_no, kernels.burst

),

final as (

    select
        bursts.trace_id,
        bursts.gpu_index,
        bursts.burst,
        bursts.start_ns,
        bursts.end_ns,
        (bursts.end_ns - bursts.start_ns) / 1e9 as duration_s,
        bursts.gap_ns / 1e9 as gap_s,
        bursts.bytes,
        bursts.bytes / cast(bursts.end_ns - bursts.start_ns as double) as avg_gb_s,
        bursts.peak_gb_s,
        bursts.phase,
        top_kernels.top.kernel_name as top_kernel,
        100 * top_kernels.top.overlap_ns / cast(bursts.end_ns - bursts.start_ns as double) as top_kernel_pct,
        case
            when devices.device_no is not null
                then 100 * coalesce(comm.comm_ns, 0) / cast(bursts.end_ns - bursts.start_ns as double)
        end as comm_pct
    from bursts
    left join devices on bursts.trace_no = devices.trace_no and bursts.gpu_index = devices.gpu_index
    left join comm on devices.device_no = comm.device_no and bursts.burst = comm.burst
    left join top_kernels on devices.device_no = top_kernels.device_no and bursts.burst = top_kernels.burst

)

select * from final
