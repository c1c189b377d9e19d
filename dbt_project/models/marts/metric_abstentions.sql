with source as (

    select * from {{ ref('int_experiment__metrics_long') }}

),

final as (

    select
        trace_id,
        metric,
        reason
    from source
    where value is null

)

select * from final
