with runs as (

    select * from {{ ref('stg_benchmark_runs') }}
    where {{ pending_filter('trace_id') }}

),

artifacts as (

    select * from {{ ref('stg_artifacts') }}
    where {{ pending_filter('trace_id') }}

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

requests as (

    select
        *,
        1000 * (e2e_s - ttft_s) / nullif(output_tokens - 1, 0) as tpot_ms
    from {{ ref('stg_requests') }}
    where {{ pending_filter('trace_id') }}

),

recomputed as (

    select
        trace_id,
        path,
        line,
        count(*) as requests,
        count(*) filter (where succeeded) as successes,
        1000 * avg(ttft_s) filter (where succeeded) as mean_ttft_ms,
        1000 * quantile_cont(ttft_s, 0.5) filter (where succeeded) as median_ttft_ms,
        1000 * quantile_cont(ttft_s, 0.99) filter (where succeeded) as p99_ttft_ms,
        avg(tpot_ms) filter (where succeeded and output_tokens > 1) as mean_tpot_ms,
        quantile_cont(tpot_ms, 0.5) filter (where succeeded and output_tokens > 1) as median_tpot_ms,
        quantile_cont(tpot_ms, 0.99) filter (where succeeded and output_tokens > 1) as p99_tpot_ms,
        1000 * avg(e2e_s) filter (where succeeded) as mean_e2el_ms,
        1000 * quantile_cont(e2e_s, 0.5) filter (where succeeded) as median_e2el_ms,
        1000 * quantile_cont(e2e_s, 0.99) filter (where succeeded) as p99_e2el_ms,
        sum(input_tokens) filter (where succeeded) as input_tokens,
        sum(output_tokens) filter (where succeeded) as output_tokens
    from requests
    group by trace_id, path, line

),

latencies as (

    select
        trace_id,
        path,
        line,
        unnest(itls_s) as itl_s
    from requests
    where succeeded

),

inter_token as (

    select
        trace_id,
        path,
        line,
        1000 * avg(itl_s) as mean_itl_ms,
        1000 * quantile_cont(itl_s, 0.5) as median_itl_ms,
        1000 * quantile_cont(itl_s, 0.99) as p99_itl_ms
    from latencies
    group by trace_id, path, line

),

ranked as (

    select
        traces.trace_no,
        runs.*,
        coalesce(artifacts.artifact_format = 'bench_log', false) as is_log,
        recomputed.requests as detailed_requests,
        recomputed.successes as detailed_successes,
        recomputed.mean_ttft_ms as recomputed_mean_ttft_ms,
        recomputed.median_ttft_ms as recomputed_median_ttft_ms,
        recomputed.p99_ttft_ms as recomputed_p99_ttft_ms,
        recomputed.mean_tpot_ms as recomputed_mean_tpot_ms,
        recomputed.median_tpot_ms as recomputed_median_tpot_ms,
        recomputed.p99_tpot_ms as recomputed_p99_tpot_ms,
        inter_token.mean_itl_ms as recomputed_mean_itl_ms,
        inter_token.median_itl_ms as recomputed_median_itl_ms,
        inter_token.p99_itl_ms as recomputed_p99_itl_ms,
        recomputed.mean_e2el_ms as recomputed_mean_e2el_ms,
        recomputed.median_e2el_ms as recomputed_median_e2el_ms,
        recomputed.p99_e2el_ms as recomputed_p99_e2el_ms,
        cast(recomputed.input_tokens as bigint) as recomputed_input_tokens,
        cast(recomputed.output_tokens as bigint) as recomputed_output_tokens,
        recomputed.output_tokens / nullif(runs.duration_s, 0) as recomputed_output_throughput,
        recomputed.successes / nullif(runs.duration_s, 0) as recomputed_request_throughput
    from runs
    inner join traces on runs.trace_id = traces.trace_id
    left join artifacts on runs.trace_id = artifacts.trace_id and runs.path = artifacts.path
    left join recomputed
        on runs.trace_id = recomputed.trace_id and runs.path = recomputed.path and runs.line = recomputed.line
    left join inter_token
        on runs.trace_id = inter_token.trace_id and runs.path = inter_token.path and runs.line = inter_token.line

),

final as (

    select
        *,
        -- results with details first, a console log last: it repeats the result file of the same run
        row_number() over (
            partition by trace_no
            order by is_log asc, detailed_requests is null, started_at desc nulls last, path asc, line desc
        ) = 1 as is_primary
    from ranked

)

select * from final
