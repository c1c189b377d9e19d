with source as (

    select * from {{ source('raw', 'gpu_metrics') }}

),

renamed as (

    select
        trace_id,
        gpu_index,
        metric,
        sampled_ns,
        value as metric_value
    from source

)

select * from renamed
