-- The same arithmetic as dbt's int_serving__runs; a test compares the two.
with spoken as (

    select
        *,
        1000 * (e2e_s - ttft_s) / nullif(output_tokens - 1, 0) as tpot_ms
    from requests
    where succeeded

),

recomputed as (

    select
        path,
        line,
        count(*) as successes,
        1000 * avg(ttft_s) as mean_ttft_ms,
        1000 * quantile_cont(ttft_s, 0.5) as median_ttft_ms,
        1000 * quantile_cont(ttft_s, 0.99) as p99_ttft_ms,
        avg(tpot_ms) filter (where output_tokens > 1) as mean_tpot_ms,
        quantile_cont(tpot_ms, 0.5) filter (where output_tokens > 1) as median_tpot_ms,
        quantile_cont(tpot_ms, 0.99) filter (where output_tokens > 1) as p99_tpot_ms,
        1000 * avg(e2e_s) as mean_e2el_ms,
        1000 * quantile_cont(e2e_s, 0.5) as median_e2el_ms,
        1000 * quantile_cont(e2e_s, 0.99) as p99_e2el_ms,
        sum(input_tokens) as total_input_tokens,
        sum(output_tokens) as total_output_tokens
    from spoken
    group by path, line

),

latencies as (

    select
        path,
        line,
        unnest(itls_s) as itl_s
    from spoken

),

inter_token as (

    select
        path,
        line,
        1000 * avg(itl_s) as mean_itl_ms,
        1000 * quantile_cont(itl_s, 0.5) as median_itl_ms,
        1000 * quantile_cont(itl_s, 0.99) as p99_itl_ms
    from latencies
    group by path, line

),

spans as (

    select
        path,
        line,
        (max(end_ns) - min(start_ns)) / 1e9 as span_s
    from placed_requests
    where start_ns is not null
    group by path, line

),

joined as (

    select
        runs.path || ':' || runs.line as run,
        runs.*,
        recomputed as again,
        inter_token as between_tokens,
        spans.span_s,
        recomputed.successes,
        exists (
            select 1 from requests where requests.path = runs.path and requests.line = runs.line
        ) as has_details
    from benchmark_runs as runs
    left join recomputed on runs.path = recomputed.path and runs.line = recomputed.line
    left join inter_token on runs.path = inter_token.path and runs.line = inter_token.line
    left join spans on runs.path = spans.path and runs.line = spans.line

),

pairs as (

    select
        run,
        unnest([
            {'metric': 'mean_ttft_ms', 'reported': mean_ttft_ms, 'again': again.mean_ttft_ms},
            {'metric': 'median_ttft_ms', 'reported': median_ttft_ms, 'again': again.median_ttft_ms},
            {'metric': 'p99_ttft_ms', 'reported': p99_ttft_ms, 'again': again.p99_ttft_ms},
            {'metric': 'mean_tpot_ms', 'reported': mean_tpot_ms, 'again': again.mean_tpot_ms},
            {'metric': 'median_tpot_ms', 'reported': median_tpot_ms, 'again': again.median_tpot_ms},
            {'metric': 'p99_tpot_ms', 'reported': p99_tpot_ms, 'again': again.p99_tpot_ms},
            {'metric': 'mean_itl_ms', 'reported': mean_itl_ms, 'again': between_tokens.mean_itl_ms},
            {'metric': 'median_itl_ms', 'reported': median_itl_ms, 'again': between_tokens.median_itl_ms},
            {'metric': 'p99_itl_ms', 'reported': p99_itl_ms, 'again': between_tokens.p99_itl_ms},
            {'metric': 'mean_e2el_ms', 'reported': mean_e2el_ms, 'again': again.mean_e2el_ms},
            {'metric': 'median_e2el_ms', 'reported': median_e2el_ms, 'again': again.median_e2el_ms},
            {'metric': 'p99_e2el_ms', 'reported': p99_e2el_ms, 'again': again.p99_e2el_ms},
            {
                'metric': 'output_throughput', 'reported': output_throughput,
                'again': again.total_output_tokens / nullif(duration_s, 0)
            },
            {
                'metric': 'request_throughput', 'reported': request_throughput,
                'again': successes / nullif(duration_s, 0)
            },
            {
                'metric': 'total_input_tokens', 'reported': total_input_tokens::double,
                'again': again.total_input_tokens::double
            },
            {
                'metric': 'total_output_tokens', 'reported': total_output_tokens::double,
                'again': again.total_output_tokens::double
            }
        ], recursive := true)
    from joined

)

select
    'requests_unaccounted' as fact,
    run as subject,
    num_prompts - completed - coalesce(failed, 0) as value,
    null as text
from joined
union all
select
    'requests_without_details' as fact,
    run as subject,
    case when has_details then completed - coalesce(successes, 0) end as value,
    null as text
from joined
union all
select
    'duration_difference_pct' as fact,
    run as subject,
    100 * (duration_s - span_s) / nullif(span_s, 0) as value,
    null as text
from joined
union all
select
    'reported_difference_pct' as fact,
    run || ' ' || metric as subject,
    100 * (reported - again) / nullif(again, 0) as value,
    null as text
from pairs
where reported is not null and again is not null
