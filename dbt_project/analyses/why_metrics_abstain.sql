with abstentions as (

    select * from {{ ref('metric_abstentions') }}

),

final as (

    select
        trace_id,
        reason,
        count(*) as metrics,
        string_agg(metric, ', ' order by metric) as metric_names
    from abstentions
    group by trace_id, reason
    order by trace_id asc, metrics desc, reason asc

)

select * from final
