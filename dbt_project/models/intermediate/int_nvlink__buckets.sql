with cells as (

    select * from {{ ref('int_nvlink__cells') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

-- the part of a single interval that lies in the window, as shares of its bytes
placed as (

    select
        cells.trace_no,
        cells.gpu_index,
        cells.start_ns,
        cells.end_ns,
        cells.tx_bytes,
        cells.rx_bytes,
        windows.window_start_ns,
        windows.window_end_ns,
        unnest(
            range(
                (greatest(cells.start_ns, windows.window_start_ns) - windows.window_start_ns) // {{ bucket_ns() }},
                (least(cells.end_ns, windows.window_end_ns) - 1 - windows.window_start_ns) // {{ bucket_ns() }} + 1
            )
        ) as bucket
    from cells
    -- one window a trace
    inner join windows on cells.trace_no = windows.trace_no
    where
        cells.tx_bytes is not null
        and cells.end_ns > windows.window_start_ns
        and cells.start_ns < windows.window_end_ns

),

cut as (

    select
        *,
        greatest(start_ns, window_start_ns + bucket * {{ bucket_ns() }}) as from_ns,
        least(end_ns, window_end_ns, window_start_ns + (bucket + 1) * {{ bucket_ns() }}) as to_ns
    from placed

),

pieces as (

    select
        trace_no,
        gpu_index,
        bucket,
        {{ bytes_between('tx_bytes', 'start_ns', 'end_ns', 'from_ns', 'to_ns') }} as tx_bytes,
        {{ bytes_between('rx_bytes', 'start_ns', 'end_ns', 'from_ns', 'to_ns') }} as rx_bytes
    from cut
    union all by name
    -- intervals summed by the bucket they begin in, which may end in the next
    select
        trace_no,
        gpu_index,
        bucket,
        tx_bytes - tx_tail_bytes as tx_bytes,
        rx_bytes - rx_tail_bytes as rx_bytes
    from cells
    where start_ns is null
    union all by name
    select
        trace_no,
        gpu_index,
        last_bucket as bucket,
        tx_tail_bytes as tx_bytes,
        rx_tail_bytes as rx_bytes
    from cells
    where start_ns is null and last_bucket > bucket

),

summed as (

    select
        trace_no,
        gpu_index,
        bucket,
        cast(sum(tx_bytes) as bigint) as tx_bytes,
        cast(sum(rx_bytes) as bigint) as rx_bytes
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
