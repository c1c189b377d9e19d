with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

settings as (

    select * from {{ ref('built_traces') }}

),

specs as (

    select
        gpu_model,
        max(peak_gb_s) as link_peak_gb_s
    from {{ ref('gpu_link_specs') }}
    group by gpu_model

),

final as (

    select
        metrics.trace_id,
        metrics.gpu_model,
        metrics.peak_nvlink_gb_s,
        specs.link_peak_gb_s,
        100 * metrics.peak_nvlink_gb_s / specs.link_peak_gb_s as peak_pct,
        metrics.bw_usage_pct,
        settings.bucket_ms
    from metrics
    inner join specs on metrics.gpu_model = specs.gpu_model  -- one row a model
    inner join settings on metrics.trace_id = settings.trace_id  -- one row a trace
    where 100 * metrics.peak_nvlink_gb_s / specs.link_peak_gb_s >= {{ var('at_least_pct', 0.0) }}
    order by peak_pct desc, metrics.trace_id asc

)

select * from final
