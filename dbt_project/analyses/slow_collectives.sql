with collectives as (

    select * from {{ ref('collective_bandwidth') }}

),

metrics as (

    select * from {{ ref('experiment_metrics') }}

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
        collectives.trace_id,
        collectives.device,
        collectives.library,
        collectives.collective,
        collectives.kernels,
        collectives.union_s,
        collectives.median_kernel_us,
        collectives.gb_s,
        100 * collectives.gb_s / specs.link_peak_gb_s as peak_pct,
        collectives.covered_pct,
        collectives.reason
    from collectives
    inner join metrics on collectives.trace_id = metrics.trace_id  -- one row a trace
    left join specs on metrics.gpu_model = specs.gpu_model  -- one row a model
    order by peak_pct asc nulls last, collectives.trace_id asc, collectives.device asc, collectives.collective asc

)

select * from final
