with bursts as (

    select
        trace_id,
        coalesce(phase, 'none') as phase,
        (end_ns - start_ns) / 1e9 as length_s,
        gap_ns / 1e9 as gap_s
    from {{ ref('int_burst__spans') }}

),

in_phases as (

    select * from bursts
    union all by name
    select
        trace_id,
        'all' as phase,
        length_s,
        gap_s
    from bursts

),

quantities as (

    select
        trace_id,
        phase,
        'length' as quantity,
        length_s as seconds
    from in_phases
    union all by name
    select
        trace_id,
        phase,
        'gap' as quantity,
        gap_s as seconds
    from in_phases
    where gap_s is not null

),

final as (

    select
        trace_id,
        phase,
        quantity,
        count(*) as bursts,
        avg(seconds) as mean_s,
        quantile_cont(seconds, 0.5) as p50_s,
        quantile_cont(seconds, 0.9) as p90_s,
        quantile_cont(seconds, 0.99) as p99_s,
        max(seconds) as max_s
    from quantities
    group by trace_id, phase, quantity

)

select * from final
