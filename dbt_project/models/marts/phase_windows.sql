with source as (

    select * from {{ ref('int_phase__windows') }}

),

final as (

    select
        trace_id,
        phase,
        phase_source,
        start_ns,
        end_ns
    from source

)

select * from final
