with source as (

    select * from {{ ref('int_phase__traffic') }}

),

final as (

    select
        trace_id,
        phase,
        phase_source,
        windows,
        phase_s,
        cast(nvlink_gb as double) as nvlink_gb,
        avg_bw_gb_s
    from source

)

select * from final
