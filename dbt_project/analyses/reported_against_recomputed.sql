{%- set figures = [
    'mean_ttft_ms', 'median_ttft_ms', 'p99_ttft_ms', 'mean_tpot_ms', 'median_tpot_ms', 'p99_tpot_ms',
    'mean_itl_ms', 'median_itl_ms', 'p99_itl_ms', 'mean_e2el_ms', 'median_e2el_ms', 'p99_e2el_ms',
    'output_throughput', 'request_throughput'
] -%}
with runs as (

    select * from {{ ref('serving_metrics') }}
    where detailed_requests is not null

),

pairs as (

    select
        trace_id,
        path,
        line,
        unnest([
            {% for name in figures -%}
                '{{ name }}'{{ ',' if not loop.last }}
            {% endfor -%}
        ]) as figure,
        unnest([
            {% for name in figures -%}
                {{ name }}{{ ',' if not loop.last }}
            {% endfor -%}
        ]) as reported,
        unnest([
            {% for name in figures -%}
                recomputed_{{ name }}{{ ',' if not loop.last }}
            {% endfor -%}
        ]) as recomputed
    from runs

),

final as (

    select
        *,
        100 * (recomputed - reported) / nullif(reported, 0) as deviation_pct
    from pairs
    where abs(recomputed - reported) > {{ var('tolerance_pct', 1.0) }} / 100 * abs(reported)
    order by abs(deviation_pct) desc nulls first, trace_id asc, path asc, line asc, figure asc

)

select * from final
