-- Conservation: a GPU's buckets add up to what its counters say at the end of the window less what they say at its
-- start, counter by counter, straight from the reads. Counters that were reset are left out: what they moved is unknown.
with windows as (

    select * from {{ ref('int_profile__windows') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

samples as (

    select
        gpus.trace_id,
        gpus.gpu_index,
        coalesce(samples.link_id, -1) as link_id,
        samples.direction,
        samples.sampled_ns,
        samples.counter_kib,
        windows.window_start_ns,
        windows.window_end_ns
    from {{ ref('stg_nvlink_samples') }} as samples
    inner join gpus on samples.trace_id = gpus.trace_id and samples.gpu_index = gpus.gpu_index
    inner join windows on gpus.trace_no = windows.trace_no
    where {{ pending_filter('samples.trace_id') }} and (samples.link_id is null or not gpus.has_summed_counter)

),

-- the reads on either side of both edges of the window; without a reset a counter's highest value is its last
edges as (

    select
        trace_id,
        gpu_index,
        link_id,
        direction,
        any_value(window_start_ns) as window_start_ns,
        any_value(window_end_ns) as window_end_ns,
        max(sampled_ns) filter (where sampled_ns <= window_start_ns) as start_before_ns,
        max(counter_kib) filter (where sampled_ns <= window_start_ns) as start_before_kib,
        min(sampled_ns) filter (where sampled_ns > window_start_ns) as start_after_ns,
        min(counter_kib) filter (where sampled_ns > window_start_ns) as start_after_kib,
        max(sampled_ns) filter (where sampled_ns <= window_end_ns) as end_before_ns,
        max(counter_kib) filter (where sampled_ns <= window_end_ns) as end_before_kib,
        min(sampled_ns) filter (where sampled_ns > window_end_ns) as end_after_ns,
        min(counter_kib) filter (where sampled_ns > window_end_ns) as end_after_kib
    from samples
    group by trace_id, gpu_index, link_id, direction

),

-- outside of its reads a counter has moved nothing that is known
counted as (

    select
        trace_id,
        gpu_index,
        case
            when start_before_ns is null then start_after_kib
            when start_after_ns is null then start_before_kib
            else
                start_before_kib
                + (start_after_kib - start_before_kib)
                * ((window_start_ns - start_before_ns) / (start_after_ns - start_before_ns))
        end as start_kib,
        case
            when end_before_ns is null then end_after_kib
            when end_after_ns is null then end_before_kib
            else
                end_before_kib
                + (end_after_kib - end_before_kib) * ((window_end_ns - end_before_ns) / (end_after_ns - end_before_ns))
        end as end_kib
    from edges

),

expected as (

    select
        trace_id,
        gpu_index,
        count(*) as series,
        sum(end_kib - start_kib) * 1024 as bytes
    from counted
    group by trace_id, gpu_index

),

timeline as (

    select
        trace_id,
        gpu_index,
        sum(bytes) as bytes
    from {{ ref('nvlink_bandwidth') }}
    where {{ pending_filter('trace_id') }}
    group by trace_id, gpu_index

),

-- kept reads with a fall or with equal times are counted by ingest
treated as (

    select distinct trace_id
    from {{ ref('stg_ingest_skips') }}
    where {{ pending_filter('trace_id') }} and table_name = 'nvlink_samples' and action = 'kept'

)

select
    expected.trace_id,
    expected.gpu_index,
    expected.bytes as counted_bytes,
    coalesce(timeline.bytes, 0) as timeline_bytes
from expected
left join timeline on expected.trace_id = timeline.trace_id and expected.gpu_index = timeline.gpu_index
anti join treated on expected.trace_id = treated.trace_id
-- a straddling interval is rounded to whole bytes at each edge
where abs(expected.bytes - coalesce(timeline.bytes, 0)) > 2 * expected.series + 1e-9 * expected.bytes
