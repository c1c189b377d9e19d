with source as (

    select * from {{ source('raw', 'artifacts') }}

),

renamed as (

    select
        trace_id,
        path,
        format as artifact_format,
        bytes as file_bytes,
        sha256,
        rows_seen,
        rows_written,
        rows_skipped,
        producer,
        note
    from source

)

select * from renamed
