with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

final as (

    select
        trace_id,
        backend,
        tp,
        exposed_comm_s,
        100 * exposed_comm_s / nullif(gpu_active_s, 0) as exposed_pct_of_gpu_active,
        comm_contribution_pct,
        comm_compute_overlap_pct,
        gpu_active_s
    from metrics
    where exposed_comm_s is not null
    order by exposed_pct_of_gpu_active desc, trace_id asc
    limit {{ var('top', 20) }}

)

select * from final
