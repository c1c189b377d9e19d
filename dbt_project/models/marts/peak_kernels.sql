with series as (

    select * from {{ ref('int_nvlink__series') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

executions as (

    select * from {{ ref('int_kernels__executions') }}

),

kinds as (

    select * from {{ ref('int_kernels__kinds') }}

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

fastest as (

    select
        trace_no,
        gpu_index,
        link_id,
        is_tx,
        unnest(peaks) as top
    from series

),

-- the highest of a trace are among the highest of its series
ranked as (

    select
        *,
        row_number() over (
            partition by trace_no
            order by top.gb_s desc, top.minus_start_ns desc, gpu_index asc, link_id asc, is_tx desc
        ) as peak
    from fastest
    where top.gb_s > 0

),

peaks as (

    select
        windows.trace_id,
        ranked.peak,
        ranked.gpu_index,
        ranked.link_id,
        ranked.is_tx,
        ranked.top.gb_s,
        {{ interval_clip(
            '-ranked.top.minus_start_ns', 'ranked.top.end_ns', 'windows.window_start_ns', 'windows.window_end_ns'
        ) }},
        devices.device_no
    from ranked
    inner join windows on ranked.trace_no = windows.trace_no
    left join devices on ranked.trace_no = devices.trace_no and ranked.gpu_index = devices.gpu_index
    where ranked.peak <= {{ var('peak_intervals') }}

),

shared as (

    {{ interval_intersection('executions', 'peaks', ['device_no'], ['kernel_no'], ['peak']) }}

),

marked as (

    select
        *,
        {{ previous_end_ns('end_ns', 'device_no, peak, kernel_no', 'start_ns, end_ns') }} as before_ns
    from shared

),

overlapped as (

    select
        device_no,
        peak,
        kernel_no,
        count(*) as executions,
        sum({{ uncovered_ns('start_ns', 'end_ns', 'before_ns') }}) as overlap_ns
    from marked
    group by device_no, peak, kernel_no

),

final as (

    select
        peaks.trace_id,
        peaks.peak,
        peaks.gpu_index,
        peaks.link_id,
        case when peaks.is_tx then 'tx' else 'rx' end as direction,
        peaks.start_ns,
        peaks.end_ns,
        peaks.gb_s,
        kinds.kernel_name,
        kinds.class,
        kinds.library,
        kinds.collective,
        overlapped.executions,
        overlapped.overlap_ns / 1e3 as overlap_us,
        100 * overlapped.overlap_ns / cast(peaks.end_ns - peaks.start_ns as double) as overlap_pct,
        kinds.is_nccl
    from peaks
    left join overlapped on peaks.device_no = overlapped.device_no and peaks.peak = overlapped.peak
    left join kinds on overlapped.kernel_no = kinds.kernel_no

)

select * from final
