with cells as (

    select * from {{ ref('int_nvlink__cells') }}

),

intervals as (

    select * from cells
    where start_ns is not null and bytes is not null

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

-- bytes moved before and by the end of the part that lies in the window
placed as not materialized (

    select
        intervals.trace_no,
        intervals.gpu_index,
        intervals.is_tx,
        intervals.start_ns,
        intervals.end_ns,
        intervals.bytes,
        windows.window_start_ns,
        (greatest(intervals.start_ns, windows.window_start_ns) - windows.window_start_ns)
        // {{ bucket_ns() }} as first_bucket,
        (least(intervals.end_ns, windows.window_end_ns) - 1 - windows.window_start_ns)
        // {{ bucket_ns() }} as last_bucket,
        case
            when intervals.start_ns >= windows.window_start_ns then 0
            else {{ bytes_until('bytes', 'start_ns', 'end_ns', 'windows.window_start_ns') }}
        end as bytes_before,
        case
            when intervals.end_ns <= windows.window_end_ns then intervals.bytes
            else {{ bytes_until('bytes', 'start_ns', 'end_ns', 'windows.window_end_ns') }}
        end as bytes_by_end
    from intervals
    -- one window a trace
    inner join windows on intervals.trace_no = windows.trace_no
    where intervals.end_ns > windows.window_start_ns and intervals.start_ns < windows.window_end_ns

),

heads as (

    select
        trace_no,
        gpu_index,
        is_tx,
        first_bucket as bucket,
        case
            when first_bucket = last_bucket then bytes_by_end
            else {{ bytes_until('bytes', 'start_ns', 'end_ns', '(window_start_ns + (first_bucket + 1) * ' ~ bucket_ns() ~ ')') }}
        end - bytes_before as bytes
    from placed

),

tails as (

    select
        trace_no,
        gpu_index,
        is_tx,
        last_bucket as bucket,
        bytes_by_end
        - {{ bytes_until('bytes', 'start_ns', 'end_ns', '(window_start_ns + last_bucket * ' ~ bucket_ns() ~ ')') }} as bytes
    from placed
    where last_bucket > first_bucket

),

inner_buckets as (

    select
        *,
        unnest(range(first_bucket + 1, last_bucket)) as bucket
    from placed
    where last_bucket > first_bucket + 1

),

middles as (

    select
        trace_no,
        gpu_index,
        is_tx,
        bucket,
        {{ bytes_between(
            'bytes', 'start_ns', 'end_ns',
            '(window_start_ns + bucket * ' ~ bucket_ns() ~ ')',
            '(window_start_ns + (bucket + 1) * ' ~ bucket_ns() ~ ')'
        ) }} as bytes
    from inner_buckets

),

pieces as (

    select * from heads
    union all by name
    select * from middles
    union all by name
    select * from tails
    union all by name
    -- intervals summed by the bucket they begin in, which may end in the next
    select
        trace_no,
        gpu_index,
        is_tx,
        bucket,
        bytes - tail_bytes as bytes
    from cells
    where start_ns is null
    union all by name
    select
        trace_no,
        gpu_index,
        is_tx,
        last_bucket as bucket,
        tail_bytes as bytes
    from cells
    where start_ns is null and last_bucket > bucket

),

summed as (

    select
        trace_no,
        gpu_index,
        bucket,
        cast(coalesce(sum(bytes) filter (where is_tx), 0) as bigint) as tx_bytes,
        cast(coalesce(sum(bytes) filter (where not is_tx), 0) as bigint) as rx_bytes
    from pieces
    group by trace_no, gpu_index, bucket

),

timed as (

    select
        summed.trace_no,
        windows.trace_id,
        summed.gpu_index,
        summed.bucket,
        windows.window_start_ns + summed.bucket * {{ bucket_ns() }} as start_ns,
        least(windows.window_start_ns + (summed.bucket + 1) * {{ bucket_ns() }}, windows.window_end_ns) as end_ns,
        summed.tx_bytes,
        summed.rx_bytes
    from summed
    inner join windows on summed.trace_no = windows.trace_no

),

final as (

    select
        *,
        tx_bytes + rx_bytes as bytes,
        (tx_bytes + rx_bytes) / cast(end_ns - start_ns as double) as gb_s
    from timed

)

select * from final
