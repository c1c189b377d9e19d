with totals as (

    select
        trace_id,
        metric,
        value,
        unit,
        '{}' as dimensions
    from {{ ref('int_experiment__metrics_long') }}
    where value is not null

),

phase_metrics as (

    select
        trace_id,
        phase,
        phase_source,
        cast(avg_bw_gb_s as double) as phase_avg_bw_gb_s,
        cast(comm_share_pct as double) as phase_comm_share_pct,
        cast(bytes_per_prompt_token as double) as phase_bytes_per_prompt_token,
        cast(bytes_per_generated_token as double) as phase_bytes_per_generated_token
    from {{ ref('int_phase__metrics') }}

),

-- unpivot leaves nulls out
unpivoted as (

    unpivot phase_metrics
    on phase_avg_bw_gb_s, phase_comm_share_pct, phase_bytes_per_prompt_token, phase_bytes_per_generated_token
    into name metric value value

),

catalogue as (

    select * from {{ ref('metric_catalogue') }}

),

phases as (

    select
        unpivoted.trace_id,
        unpivoted.metric,
        unpivoted.value,
        catalogue.unit,
        cast(
            to_json(struct_pack(phase := unpivoted.phase, phase_source := unpivoted.phase_source)) as varchar
        ) as dimensions
    from unpivoted
    -- one row a metric
    left join catalogue on unpivoted.metric = catalogue.metric

),

final as (

    select * from totals
    union all by name
    select * from phases

)

select * from final
