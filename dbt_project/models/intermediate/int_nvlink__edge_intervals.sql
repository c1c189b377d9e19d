with intervals as (

    select * from {{ ref('int_nvlink__intervals') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

-- an interval of at most two buckets that touches bucket n begins in n or in n - 1
around as (

    select distinct
        trace_no,
        unnest([bucket - 1, bucket]) as bucket
    from {{ ref('int_phase__parts') }}
    where not is_whole

),

placed as (

    select
        intervals.trace_no,
        intervals.gpu_index,
        intervals.start_ns,
        intervals.end_ns,
        intervals.bytes,
        (intervals.start_ns - windows.window_start_ns) // {{ bucket_ns() }} as first_bucket,
        (intervals.end_ns - 1 - windows.window_start_ns) // {{ bucket_ns() }} as last_bucket
    from intervals
    inner join windows on intervals.trace_no = windows.trace_no
    -- longer ones and those at the window's edge stand singly among the cells
    where
        intervals.bytes > 0
        and intervals.start_ns >= windows.window_start_ns
        and intervals.end_ns <= windows.window_end_ns

),

final as (

    select
        placed.trace_no,
        placed.gpu_index,
        placed.start_ns,
        placed.end_ns,
        placed.bytes
    from placed
    semi join around on placed.trace_no = around.trace_no and placed.first_bucket = around.bucket
    where placed.last_bucket <= placed.first_bucket + 1

)

select * from final
