with intervals as (

    select * from {{ ref('int_nvlink__intervals') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

frames as (

    select
        gpus.trace_no,
        gpus.gpu_index,
        windows.window_start_ns,
        windows.window_end_ns,
        -- the older script's zero and the start of its first second
        coalesce(traces.profile_start_ns, gpus.first_sample_ns) as legacy_origin_ns,
        greatest(gpus.first_sample_ns, traces.profile_start_ns) as legacy_begin_ns
    from gpus
    inner join windows on gpus.trace_no = windows.trace_no
    inner join traces on gpus.trace_no = traces.trace_no

),

placed as (

    select
        -- few and narrow keys: grouping by them is most of the work
        cast(intervals.trace_no as bigint) * 65536 + intervals.gpu_index as gpu,
        intervals.is_tx,
        intervals.start_ns,
        intervals.end_ns,
        cast(intervals.bytes as double) as bytes,
        frames.window_start_ns,
        frames.window_end_ns,
        (intervals.start_ns - frames.window_start_ns) // {{ bucket_ns() }} as first_bucket,
        (intervals.end_ns - 1 - frames.window_start_ns) // {{ bucket_ns() }} as last_bucket,
        -- seconds rounded to two decimals, half to even as casts round
        cast((intervals.start_ns - frames.legacy_origin_ns) / 1e7 as bigint) * 4
        + cast(intervals.start_ns >= frames.legacy_begin_ns as integer)
        + cast(intervals.start_ns >= frames.legacy_begin_ns + 1000000000 as integer) as legacy
    from intervals
    -- one row a polled GPU
    inner join frames on intervals.trace_no = frames.trace_no and intervals.gpu_index = frames.gpu_index

),

sorted as (

    select
        *,
        bytes is null
        or last_bucket > first_bucket + 1
        or start_ns < window_start_ns
        or end_ns > window_end_ns as is_single,
        case
            when last_bucket > first_bucket
                then
                    bytes
                    - {{ bytes_until('bytes', 'start_ns', 'end_ns', '(window_start_ns + last_bucket * ' ~ bucket_ns() ~ ')') }}
            else 0
        end as tail_bytes
    from placed

),

summed as (

    select
        gpu,
        legacy,
        case when not is_single then first_bucket end as bucket,
        case when is_single then start_ns end as start_ns,
        case when is_single then end_ns end as end_ns,
        max(case when not is_single then last_bucket end) as last_bucket,
        -- whole numbers below 2^53: exact as double, and quicker to sum than bigint
        sum(case when is_tx then bytes else 0 end) as tx_bytes,
        sum(case when is_tx then 0 else bytes end) as rx_bytes,
        sum(case when is_tx then tail_bytes else 0 end) as tx_tail_bytes,
        sum(case when is_tx then 0 else tail_bytes end) as rx_tail_bytes,
        count(bytes) as known_intervals,
        count(*) - count(bytes) as reset_intervals,
        min(case when bytes > 0 then start_ns end) as first_moved_ns
    from sorted
    group by all

),

final as (

    select
        cast(gpu // 65536 as integer) as trace_no,
        cast(gpu % 65536 as integer) as gpu_index,
        (legacy - (legacy & 3)) // 4 as legacy_bucket,
        cast(legacy & 3 as integer) as legacy_part,
        bucket,
        last_bucket,
        start_ns,
        end_ns,
        -- null where all was reset
        case when known_intervals > 0 then coalesce(tx_bytes, 0) end as tx_bytes,
        case when known_intervals > 0 then coalesce(rx_bytes, 0) end as rx_bytes,
        tx_tail_bytes,
        rx_tail_bytes,
        reset_intervals,
        first_moved_ns
    from summed

)

select * from final
