{{ config(materialized='view') }}

with samples as (

    select * from {{ ref('stg_nvlink_samples') }}
    where {{ pending_filter('trace_id') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

final as (

    select
        gpus.trace_no,
        samples.gpu_index,
        samples.link_id,
        samples.direction = 'tx' as is_tx,
        samples.sampled_ns - samples.interval_ns as start_ns,
        samples.sampled_ns as end_ns,
        -- null where the counter was reset: how much it counted before is unknown
        samples.interval_kib * 1024 as bytes
    from samples
    -- one row a polled GPU
    inner join gpus on samples.trace_id = gpus.trace_id and samples.gpu_index = gpus.gpu_index
    where
        samples.interval_ns > 0
        -- where a GPU was read both ways its links would count twice
        and (samples.link_id is null or not gpus.has_summed_counter)

)

select * from final
