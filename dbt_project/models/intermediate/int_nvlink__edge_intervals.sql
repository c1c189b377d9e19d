{{ config(materialized='in_chunks') }}

with samples as (

    select * from {{ ref('stg_nvlink_samples') }}
    where {{ chunk_filter('trace_id') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

parts as (

    select * from {{ ref('int_phase__parts') }}
    where not is_whole

),

-- an interval of at most two buckets that touches bucket n has both its reads from n - 1 to n + 2
around as (

    select distinct
        trace_no,
        unnest(range(bucket - 1, bucket + 3)) as bucket
    from parts

),

-- neighbours share the difference of their number and their rank
islands as (

    select
        trace_no,
        bucket,
        bucket - row_number() over (partition by trace_no order by bucket) as island
    from around

),

frames as (

    select
        gpus.trace_id,
        gpus.trace_no,
        gpus.gpu_index,
        gpus.has_summed_counter,
        windows.window_start_ns
    from gpus
    inner join windows on gpus.trace_no = windows.trace_no

),

numbered as (

    select
        {{ series_number(gpus='frames') }} as series,
        frames.trace_no,
        samples.sampled_ns,
        samples.host_ns,
        samples.counter_kib,
        (samples.sampled_ns - frames.window_start_ns) // {{ bucket_ns() }} as bucket
    from samples
    inner join frames on samples.trace_id = frames.trace_id and samples.gpu_index = frames.gpu_index
    where samples.link_id is null or not frames.has_summed_counter

),

-- all reads of an island are kept, so neighbours in it are neighbours in the file
reads as (

    select
        numbered.series,
        islands.island,
        numbered.sampled_ns,
        numbered.host_ns,
        numbered.counter_kib
    from numbered
    inner join islands on numbered.trace_no = islands.trace_no and numbered.bucket = islands.bucket

),

{{ consecutive_reads('reads', ['series', 'island']) }},

final as (

    select
        intervals.trace_no,
        intervals.gpu_index,
        intervals.start_ns,
        intervals.end_ns,
        intervals.bytes
    from intervals
    inner join windows on intervals.trace_no = windows.trace_no
    -- longer ones and those at the window's edge stand singly among the cells
    where
        intervals.bytes > 0
        and intervals.start_ns >= windows.window_start_ns
        and intervals.end_ns <= windows.window_end_ns
        and (intervals.end_ns - 1 - windows.window_start_ns) // {{ bucket_ns() }}
        <= (intervals.start_ns - windows.window_start_ns) // {{ bucket_ns() }} + 1

)

select * from final
