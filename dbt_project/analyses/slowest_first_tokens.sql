with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

phases as (

    select * from {{ ref('phase_intensity') }}
    where phase = 'prefill'

),

final as (

    select
        metrics.trace_id,
        metrics.backend,
        metrics.tp,
        metrics.batch,
        metrics.mean_ttft_ms,
        metrics.p99_ttft_ms,
        metrics.prefill_avg_bw_gb_s,
        phases.phase_source,
        phases.phase_s as prefill_s,
        phases.nvlink_gb as prefill_nvlink_gb,
        100 * metrics.prefill_avg_bw_gb_s / nullif(metrics.peak_nvlink_gb_s, 0) as prefill_pct_of_own_peak
    from metrics
    left join phases on metrics.trace_id = phases.trace_id  -- at most one prefill row a trace
    where metrics.mean_ttft_ms is not null
    order by metrics.mean_ttft_ms desc, metrics.trace_id asc
    limit {{ var('top', 20) }}

)

select * from final
