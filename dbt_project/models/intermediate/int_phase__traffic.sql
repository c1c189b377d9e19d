with intervals as (

    select
        trace_no,
        gpu_index,
        start_ns,
        end_ns,
        bytes
    from {{ ref('int_nvlink__edge_intervals') }}
    union all by name
    select
        trace_no,
        gpu_index,
        start_ns,
        end_ns,
        tx_bytes + rx_bytes as bytes
    from {{ ref('int_nvlink__cells') }}
    where start_ns is not null and tx_bytes + rx_bytes > 0

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

phases as (

    select * from {{ ref('int_phase__windows') }}

),

buckets as (

    select * from {{ ref('int_nvlink__buckets') }}

),


totals as (

    select * from {{ ref('int_nvlink__totals') }}

),

cells as (

    select * from {{ ref('int_phase__parts') }}

),

whole as (

    select
        cells.trace_no,
        buckets.gpu_index,
        cells.phase,
        sum(buckets.bytes) as bytes
    from cells
    inner join buckets on cells.trace_no = buckets.trace_no and cells.bucket = buckets.bucket
    where cells.is_whole
    group by cells.trace_no, buckets.gpu_index, cells.phase

),

parts as (

    select * from cells
    where not is_whole

),

placed as (

    select
        intervals.trace_no,
        intervals.gpu_index,
        intervals.start_ns,
        intervals.end_ns,
        intervals.bytes,
        (greatest(intervals.start_ns, windows.window_start_ns) - windows.window_start_ns)
        // {{ bucket_ns() }} as first_bucket,
        (least(intervals.end_ns, windows.window_end_ns) - 1 - windows.window_start_ns)
        // {{ bucket_ns() }} as last_bucket
    from intervals
    inner join windows on intervals.trace_no = windows.trace_no
    where
        intervals.end_ns > windows.window_start_ns
        and intervals.start_ns < windows.window_end_ns

),

-- only the intervals that touch a bucket where a phase begins or ends are looked at one by one
touching as (

    select
        *,
        first_bucket as bucket
    from placed
    union all by name
    select
        *,
        last_bucket as bucket
    from placed
    where last_bucket > first_bucket
    union all by name
    select
        *,
        unnest(range(first_bucket + 1, last_bucket)) as bucket
    from placed
    where last_bucket > first_bucket + 1

),

partial as (

    select
        parts.trace_no,
        touching.gpu_index,
        parts.phase,
        sum(
            {{ bytes_between(
                'touching.bytes', 'touching.start_ns', 'touching.end_ns',
                'greatest(touching.start_ns, parts.start_ns)', 'least(touching.end_ns, parts.end_ns)'
            ) }}
        ) as bytes
    from touching
    inner join parts on touching.trace_no = parts.trace_no and touching.bucket = parts.bucket
    where touching.end_ns > parts.start_ns and touching.start_ns < parts.end_ns
    group by parts.trace_no, touching.gpu_index, parts.phase

),

halves as (

    select * from whole
    union all by name
    select * from partial

),

moved as (

    select
        trace_no,
        phase,
        sum(bytes) as bytes
    from halves
    group by trace_no, phase

),

lengths as (

    select
        trace_no,
        trace_id,
        phase,
        phase_source,
        count(*) as windows,
        sum(end_ns - start_ns) as phase_ns
    from phases
    group by trace_no, trace_id, phase, phase_source

),

final as (

    select
        lengths.trace_no,
        lengths.trace_id,
        lengths.phase,
        lengths.phase_source,
        cast(lengths.windows as bigint) as windows,
        lengths.phase_ns / 1e9 as phase_s,
        case when totals.is_known then coalesce(moved.bytes, 0) / 1e9 end as nvlink_gb,
        case
            when totals.is_known
                then cast(coalesce(moved.bytes, 0) as double) / lengths.phase_ns / totals.polled_gpus
        end as avg_bw_gb_s
    from lengths
    inner join totals on lengths.trace_no = totals.trace_no
    left join moved on lengths.trace_no = moved.trace_no and lengths.phase = moved.phase

)

select * from final
