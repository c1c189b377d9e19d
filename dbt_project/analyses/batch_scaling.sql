with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

cards as (

    select * from {{ ref('stg_traces') }}

),

traces as (

    select
        {{ workload_settings('metrics', 'cards') }},
        metrics.backend,
        metrics.tp,
        metrics.batch,
        metrics.throughput_tok_s,
        metrics.mean_tpot_ms,
        metrics.avg_nvlink_gb_s,
        {{ nvlink_bytes_per_token('metrics') }} as bytes_per_token
    from metrics
    inner join cards on metrics.trace_id = cards.trace_id  -- one card a trace
    where metrics.batch is not null and metrics.throughput_tok_s is not null

),

sized as (

    select
        * exclude (throughput_tok_s, mean_tpot_ms, avg_nvlink_gb_s, bytes_per_token),
        count(*) as traces,
        avg(throughput_tok_s) as throughput_tok_s,
        avg(mean_tpot_ms) as mean_tpot_ms,
        avg(avg_nvlink_gb_s) as avg_nvlink_gb_s,
        avg(bytes_per_token) as bytes_per_token
    from traces
    group by all

),

scaled as (

    select
        *,
        count(*) over by_batch_size as batch_sizes,
        throughput_tok_s / nullif(first_value(throughput_tok_s) over by_batch, 0) as throughput_ratio,
        bytes_per_token / nullif(first_value(bytes_per_token) over by_batch, 0) as bytes_per_token_ratio
    from sized
    window
        by_batch_size as (
            partition by model_family, precision, gpu_model, dataset, input_len, output_len, backend, tp
        ),
        by_batch as (
            partition by model_family, precision, gpu_model, dataset, input_len, output_len, backend, tp
            order by batch
        )

),

final as (

    select * exclude (batch_sizes)
    from scaled
    where batch_sizes > 1
    order by model_family asc, backend asc, tp asc, batch asc

)

select * from final
