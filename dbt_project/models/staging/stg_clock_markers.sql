with source as (

    select * from {{ source('raw', 'clock_markers') }}

),

renamed as (

    select
        trace_id,
        path,
        name as marker,
        wall_ns,
        monotonic_ns
    from source

)

select * from renamed
