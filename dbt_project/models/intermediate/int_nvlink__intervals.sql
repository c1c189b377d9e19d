{{ config(materialized='view') }}

-- a view: only models in chunks can read it, which bounds the memory that its windows take
with samples as (

    select * from {{ ref('stg_nvlink_samples') }}
    where {{ chunk_filter('trace_id') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

reads as (

    select
        {{ series_number() }} as series,
        samples.sampled_ns,
        samples.host_ns,
        samples.counter_kib
    from samples
    -- one row a polled GPU
    inner join gpus on samples.trace_id = gpus.trace_id and samples.gpu_index = gpus.gpu_index
    -- where a GPU was read both ways its links would count twice
    where samples.link_id is null or not gpus.has_summed_counter

),

{{ consecutive_reads('reads', ['series']) }}

select * from intervals
