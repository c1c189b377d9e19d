with source as (

    select * from {{ source('raw', 'gpus') }}

),

renamed as (

    select
        trace_id,
        gpu_index,
        uuid,
        name,
        nvlink_count,
        memory_bytes,
        sm_count
    from source

)

select * from renamed
