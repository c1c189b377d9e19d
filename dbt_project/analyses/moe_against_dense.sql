with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

cards as (

    select * from {{ ref('stg_traces') }}

),

traces as (

    select
        metrics.*,
        cards.moe as is_moe,
        {{ nvlink_bytes_per_token('metrics') }} as bytes_per_token
    from metrics
    inner join cards on metrics.trace_id = cards.trace_id  -- one card a trace
    where cards.moe is not null

),

final as (

    select
        is_moe,
        workload,
        gpu_model,
        tp,
        count(*) as traces,
        count(distinct model_family) as model_families,
        avg(bytes_per_token) as mean_bytes_per_token,
        avg(avg_nvlink_gb_s) as mean_avg_nvlink_gb_s,
        avg(burst_intensity) as mean_burst_intensity,
        avg(comm_contribution_pct) as mean_comm_contribution_pct,
        avg(comm_compute_overlap_pct) as mean_comm_compute_overlap_pct,
        avg(mean_tpot_ms) as mean_tpot_ms
    from traces
    group by is_moe, workload, gpu_model, tp
    order by workload asc, gpu_model asc, tp asc, is_moe asc

)

select * from final
