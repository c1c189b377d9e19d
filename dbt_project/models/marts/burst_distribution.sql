with bursts as (

    select
        trace_id,
        coalesce(phase, 'none') as phase,
        end_ns - start_ns as length_ns,
        gap_ns
    from {{ ref('int_burst__spans') }}

),

in_phases as (

    select * from bursts
    union all by name
    select
        trace_id,
        'all' as phase,
        length_ns,
        gap_ns
    from bursts

),

quantities as (

    select
        trace_id,
        phase,
        'length' as quantity,
        length_ns as nanoseconds
    from in_phases
    union all by name
    select
        trace_id,
        phase,
        'gap' as quantity,
        gap_ns as nanoseconds
    from in_phases
    where gap_ns is not null

),

final as (

    select
        trace_id,
        phase,
        quantity,
        count(*) as bursts,
        -- of whole nanoseconds: between two equal seconds the interpolation gives more than either
        avg(nanoseconds) / 1e9 as mean_s,
        quantile_cont(nanoseconds, 0.5) / 1e9 as p50_s,
        quantile_cont(nanoseconds, 0.9) / 1e9 as p90_s,
        quantile_cont(nanoseconds, 0.99) / 1e9 as p99_s,
        max(nanoseconds) / 1e9 as max_s
    from quantities
    group by trace_id, phase, quantity

)

select * from final
