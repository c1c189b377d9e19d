{{ config(materialized='in_chunks') }}

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
        intervals.trace_no,
        intervals.gpu_index,
        intervals.is_tx,
        intervals.start_ns,
        intervals.end_ns,
        intervals.bytes,
        frames.window_start_ns,
        frames.window_end_ns,
        (intervals.start_ns - frames.window_start_ns) // {{ bucket_ns() }} as first_bucket,
        (intervals.end_ns - 1 - frames.window_start_ns) // {{ bucket_ns() }} as last_bucket,
        -- seconds rounded to two decimals, half to even
        cast(round_even((intervals.start_ns - frames.legacy_origin_ns) / 1e7, 0) as bigint) as legacy_bucket,
        case
            when intervals.start_ns >= frames.legacy_begin_ns + 1000000000 then 2
            when intervals.start_ns >= frames.legacy_begin_ns then 1
            else 0
        end as legacy_part
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

final as (

    select
        trace_no,
        gpu_index,
        is_tx,
        legacy_bucket,
        legacy_part,
        case when not is_single then first_bucket end as bucket,
        case when is_single then start_ns end as start_ns,
        case when is_single then end_ns end as end_ns,
        max(case when not is_single then last_bucket end) as last_bucket,
        -- whole numbers below 2^53: exact, and quicker to sum than bigint
        sum(cast(bytes as double)) as bytes,
        sum(cast(tail_bytes as double)) as tail_bytes,
        count(*) - count(bytes) as reset_intervals,
        min(case when bytes > 0 then start_ns end) as first_moved_ns
    from sorted
    group by all

)

select * from final
