with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

cards as (

    select * from {{ ref('stg_traces') }}

),

known as (

    select * from {{ ref('metric_values') }}
    where
        dimensions = '{}'
        and metric in (
            'mean_ttft_ms', 'p99_ttft_ms', 'mean_tpot_ms', 'p99_tpot_ms', 'throughput_tok_s',
            'total_nvlink_gb', 'avg_nvlink_gb_s', 'peak_nvlink_gb_s'
        )

),

catalogue as (

    select * from {{ ref('metric_catalogue') }}

),

traces as (

    select
        {{ workload_settings('metrics', 'cards') }},
        metrics.tp,
        metrics.batch,
        lower(metrics.backend) as backend,
        known.metric,
        known.value
    from metrics
    inner join cards on metrics.trace_id = cards.trace_id  -- one card a trace
    inner join known on metrics.trace_id = known.trace_id  -- one row a trace and metric

),

paired as (

    select
        * exclude (backend, value),
        count(*) filter (where backend = lower('{{ var("first", "vllm") }}')) as first_traces,
        count(*) filter (where backend = lower('{{ var("second", "sglang") }}')) as second_traces,
        avg(value) filter (where backend = lower('{{ var("first", "vllm") }}')) as first_value,
        avg(value) filter (where backend = lower('{{ var("second", "sglang") }}')) as second_value
    from traces
    group by all

),

final as (

    select
        paired.*,
        catalogue.unit,
        paired.second_value / nullif(paired.first_value, 0) as ratio,
        case
            when catalogue.better not in ('higher', 'lower') or paired.first_value = paired.second_value then null
            when (paired.second_value > paired.first_value) = (catalogue.better = 'higher')
                then '{{ var("second", "sglang") }}'
            else '{{ var("first", "vllm") }}'
        end as better_engine
    from paired
    inner join catalogue on paired.metric = catalogue.metric  -- one row a metric
    where paired.first_traces > 0 and paired.second_traces > 0
    order by paired.model_family asc, paired.tp asc, paired.batch asc, paired.metric asc

)

select * from final
