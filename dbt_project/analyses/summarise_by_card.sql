{%- set columns = var('group_by', 'tp,batch_size,framework').split(',') -%}
with cards as (

    select * from {{ ref('stg_traces') }}

),

metrics as (

    select * from {{ ref('experiment_metrics') }}

),

catalogue as (

    select * from {{ ref('metric_catalogue') }}

),

chosen as (

    {{ listed(var('metrics', '[]'), 'metric') }}

),

-- every trace meets every metric that it knows or abstains from
figures as (

    select
        trace_id,
        metric,
        value
    from {{ ref('metric_values') }}
    where dimensions = '{}'
    union all by name
    select
        trace_id,
        metric,
        cast(null as double) as value
    from {{ ref('metric_abstentions') }}

),

final as (

    select
        {% for column in columns -%}
            cards.{{ column }},
        {% endfor -%}
        figures.metric,
        catalogue.unit,
        count(*) as traces,
        count(figures.value) as known,
        avg(figures.value) as mean,
        min(figures.value) as min,
        median(figures.value) as median,
        max(figures.value) as max,
        string_agg(distinct coalesce(metrics.gpu_model, 'unknown'), ', ' order by coalesce(metrics.gpu_model, 'unknown'))
            as gpu_models
    from figures
    inner join catalogue on figures.metric = catalogue.metric  -- one row a metric
    inner join cards on figures.trace_id = cards.trace_id  -- one card a trace
    inner join metrics on figures.trace_id = metrics.trace_id  -- one row a trace
    where (select count(*) from chosen) = 0 or figures.metric in (select chosen.metric from chosen)
    group by all
    order by all

)

select * from final
