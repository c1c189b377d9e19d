{{ config(partitioned_by='trace_id') }}

with source as (

    select * from {{ ref('int_gpu_metrics__buckets') }}

),

final as (

    select
        trace_id,
        gpu_index,
        family,
        unit,
        bucket,
        start_ns,
        end_ns,
        metric_value as value,
        samples
    from source

)

select * from final
