with metrics as (

    select * from {{ ref('experiment_metrics') }}

),

phases as (

    select
        trace_id,
        any_value(phase_source) as phase_source,
        max(bytes_per_prompt_token) as bytes_per_prompt_token,
        max(bytes_per_generated_token) as bytes_per_generated_token,
        max(avg_bw_gb_s) filter (where phase = 'decode') as decode_avg_bw_gb_s,
        max(comm_share_pct) filter (where phase = 'prefill') as prefill_comm_share_pct,
        max(comm_share_pct) filter (where phase = 'decode') as decode_comm_share_pct
    from {{ ref('phase_intensity') }}
    group by trace_id

),

final as (

    select
        metrics.trace_id,
        metrics.backend,
        metrics.tp,
        metrics.batch,
        phases.phase_source,
        metrics.polled_gpus,
        phases.bytes_per_prompt_token,
        phases.bytes_per_generated_token,
        phases.bytes_per_generated_token / nullif(phases.bytes_per_prompt_token, 0) as generated_over_prompt,
        phases.decode_avg_bw_gb_s,
        phases.prefill_comm_share_pct,
        phases.decode_comm_share_pct
    from metrics
    inner join phases on metrics.trace_id = phases.trace_id  -- one row a trace
    where phases.bytes_per_prompt_token is not null or phases.bytes_per_generated_token is not null
    order by phases.bytes_per_generated_token desc nulls last, metrics.trace_id asc
    limit {{ var('top', 20) }}

)

select * from final
