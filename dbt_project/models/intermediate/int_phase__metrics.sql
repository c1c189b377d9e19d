with traffic as (

    select * from {{ ref('int_phase__traffic') }}

),

bursts as (

    select * from {{ ref('int_phase__bursts') }}

),

activity as (

    select * from {{ ref('int_phase__activity') }}

),

tokens as (

    select * from {{ ref('int_phase__tokens') }}

),

final as (

    select
        traffic.trace_no,
        traffic.trace_id,
        traffic.phase,
        traffic.phase_source,
        traffic.windows,
        traffic.phase_s,
        cast(traffic.nvlink_gb as double) as nvlink_gb,
        traffic.avg_bw_gb_s,
        bursts.peak_bw_gb_s,
        bursts.peak_bw_gb_s / nullif(traffic.avg_bw_gb_s, 0) as burst_intensity,
        bursts.bursts,
        bursts.burst_s,
        activity.gpu_active_s,
        activity.comm_share_pct,
        activity.comm_reason,
        tokens.prompt_tokens,
        tokens.generated_tokens,
        -- bytes of a mixed phase belong to both kinds of tokens
        case
            when traffic.phase = 'prefill' then traffic.nvlink_gb * 1e9 / nullif(tokens.prompt_tokens, 0)
        end as bytes_per_prompt_token,
        case
            when traffic.phase = 'decode' then traffic.nvlink_gb * 1e9 / nullif(tokens.generated_tokens, 0)
        end as bytes_per_generated_token,
        tokens.token_reason
    from traffic
    -- one row a trace and phase in each
    inner join bursts on traffic.trace_no = bursts.trace_no and traffic.phase = bursts.phase
    inner join activity on traffic.trace_no = activity.trace_no and traffic.phase = activity.phase
    left join tokens on traffic.trace_no = tokens.trace_no and traffic.phase = tokens.phase

)

select * from final
