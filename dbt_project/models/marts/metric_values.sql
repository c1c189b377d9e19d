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

phases as (

    select
        trace_id,
        'phase_avg_bw_gb_s' as metric,
        avg_bw_gb_s as value,
        'GB/s' as unit,
        cast(to_json(struct_pack(phase := phase, phase_source := phase_source)) as varchar) as dimensions
    from {{ ref('int_phase__traffic') }}
    where avg_bw_gb_s is not null

),

final as (

    select * from totals
    union all by name
    select * from phases

)

select * from final
