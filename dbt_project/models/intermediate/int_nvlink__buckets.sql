with intervals as (

    select * from {{ ref('int_nvlink__intervals') }}
    where bytes is not null

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

clipped as (

    select
        intervals.trace_no,
        intervals.gpu_index,
        intervals.is_tx,
        intervals.start_ns,
        intervals.end_ns,
        intervals.bytes,
        windows.window_start_ns,
        greatest(intervals.start_ns, windows.window_start_ns) as from_ns,
        least(intervals.end_ns, windows.window_end_ns) as to_ns
    from intervals
    -- one window a trace
    inner join windows on intervals.trace_no = windows.trace_no
    where intervals.end_ns > windows.window_start_ns and intervals.start_ns < windows.window_end_ns

),

placed as (

    select
        *,
        (from_ns - window_start_ns) // {{ bucket_ns() }} as first_bucket,
        (to_ns - 1 - window_start_ns) // {{ bucket_ns() }} as last_bucket
    from clipped

),

-- an interval's part in the bucket where it begins; most intervals end there too
heads as (

    select
        trace_no,
        gpu_index,
        is_tx,
        first_bucket as bucket,
        {{ bytes_between(
            'bytes', 'start_ns', 'end_ns', 'from_ns',
            'least(to_ns, window_start_ns + (first_bucket + 1) * ' ~ bucket_ns() ~ ')'
        ) }} as bytes
    from placed

),

spread as (

    select
        *,
        unnest(range(first_bucket + 1, last_bucket + 1)) as bucket
    from placed
    where last_bucket > first_bucket

),

tails as (

    select
        trace_no,
        gpu_index,
        is_tx,
        bucket,
        {{ bytes_between(
            'bytes', 'start_ns', 'end_ns', 'window_start_ns + bucket * ' ~ bucket_ns(),
            'least(to_ns, window_start_ns + (bucket + 1) * ' ~ bucket_ns() ~ ')'
        ) }} as bytes
    from spread

),

pieces as (

    select * from heads
    union all by name
    select * from tails

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
