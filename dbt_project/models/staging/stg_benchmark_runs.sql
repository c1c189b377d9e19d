with source as (

    select * from {{ source('raw', 'benchmark_runs') }}

),

renamed as (

    select
        trace_id,
        path,
        line,
        engine,
        model_id,
        dataset,
        started_at,
        num_prompts,
        request_rate,
        max_concurrency,
        duration_s,
        completed,
        failed,
        total_input_tokens,
        total_output_tokens,
        request_throughput,
        output_throughput,
        total_token_throughput,
        mean_ttft_ms,
        median_ttft_ms,
        p99_ttft_ms,
        mean_tpot_ms,
        median_tpot_ms,
        p99_tpot_ms,
        mean_itl_ms,
        median_itl_ms,
        p99_itl_ms,
        mean_e2el_ms,
        median_e2el_ms,
        p99_e2el_ms
    from source

)

select * from renamed
