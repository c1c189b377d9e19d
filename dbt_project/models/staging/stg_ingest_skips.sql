with source as (

    select * from {{ source('raw', 'ingest_skips') }}

),

renamed as (

    select
        trace_id,
        path,
        table_name,
        code,
        severity,
        action,
        row_count,
        remedy
    from source

)

select * from renamed
