with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

cards as (

    select * from {{ ref('stg_traces') }}

),

decode as (

    select * from {{ ref('phase_intensity') }}
    where phase = 'decode'

),

traces as (

    select
        {{ workload_settings('metrics', 'cards') }},
        metrics.backend,
        metrics.batch,
        metrics.tp,
        {{ nvlink_bytes_per_token('metrics') }} as bytes_per_token,
        case when metrics.polled_gpus >= metrics.tp then decode.bytes_per_generated_token end as bytes_per_generated_token
    from metrics
    inner join cards on metrics.trace_id = cards.trace_id  -- one card a trace
    left join decode on metrics.trace_id = decode.trace_id  -- at most one decode row a trace
    where metrics.tp in ({{ var('tp_low', 2) }}, {{ var('tp_high', 4) }})

),

paired as (

    select
        * exclude (tp, bytes_per_token, bytes_per_generated_token),
        count(bytes_per_token) filter (where tp = {{ var('tp_low', 2) }}) as low_traces,
        count(bytes_per_token) filter (where tp = {{ var('tp_high', 4) }}) as high_traces,
        avg(bytes_per_token) filter (where tp = {{ var('tp_low', 2) }}) as low_bytes_per_token,
        avg(bytes_per_token) filter (where tp = {{ var('tp_high', 4) }}) as high_bytes_per_token,
        avg(bytes_per_generated_token) filter (where tp = {{ var('tp_low', 2) }}) as low_bytes_per_generated_token,
        avg(bytes_per_generated_token) filter (where tp = {{ var('tp_high', 4) }}) as high_bytes_per_generated_token
    from traces
    group by all

),

final as (

    select
        *,
        high_bytes_per_token / nullif(low_bytes_per_token, 0) as ratio,
        high_bytes_per_token > low_bytes_per_token as is_raised
    from paired
    where low_traces > 0 and high_traces > 0
    order by ratio desc nulls last, model_family asc, backend asc, batch asc

)

select * from final
