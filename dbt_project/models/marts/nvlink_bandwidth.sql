{{ config(partitioned_by='trace_id') }}

with source as (

    select * from {{ ref('int_nvlink__buckets') }}

),

final as (

    select
        trace_id,
        gpu_index,
        bucket,
        start_ns,
        end_ns,
        tx_bytes,
        rx_bytes,
        bytes,
        gb_s
    from source

)

select * from final
