with source as (

    select * from {{ source('raw', 'nvlink_samples') }}

),

renamed as (

    select
        trace_id,
        gpu_index,
        link_id,
        direction,
        sampled_ns,
        host_ns,
        latency_us,
        counter_kib,
        interval_ns,
        interval_kib
    from source

)

select * from renamed
