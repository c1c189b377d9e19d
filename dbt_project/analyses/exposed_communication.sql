with overlap as (

    select * from {{ ref('comm_overlap') }}
    where reason is null

),

metrics as (

    select * from {{ ref('experiment_metrics') }}

),

final as (

    select
        metrics.trace_id,
        metrics.backend,
        metrics.tp,
        overlap.phase,
        count(*) as devices,
        sum(overlap.exposed_s) as exposed_s,
        sum(overlap.comm_s) as comm_s,
        100 * sum(overlap.overlapped_s) / nullif(sum(overlap.comm_s), 0) as overlap_pct,
        -- |A or B| = |A| + |B| - |A and B|
        100 * sum(overlap.exposed_s)
        / nullif(sum(overlap.comm_s + overlap.compute_s - overlap.overlapped_s), 0) as exposed_pct_of_gpu_active,
        100 * sum(overlap.exposed_s) / nullif(sum(overlap.phase_s), 0) as exposed_pct_of_phase
    from overlap
    inner join metrics on overlap.trace_id = metrics.trace_id  -- one row a trace
    where overlap.phase = '{{ var("phase", "") }}' or '{{ var("phase", "") }}' = ''
    group by metrics.trace_id, metrics.backend, metrics.tp, overlap.phase
    order by exposed_pct_of_gpu_active desc nulls last, metrics.trace_id asc, overlap.phase asc
    limit {{ var('top', 20) }}

)

select * from final
