with buckets as (

    select * from {{ ref('int_nvlink__buckets') }}
    where gb_s > {{ var('burst_threshold_gb_s') }}

),

phases as (

    select * from {{ ref('int_phase__windows') }}
    where phase <> 'step'

),

-- neighbours share the difference of their number and their rank
numbered as (

    select
        *,
        bucket - row_number() over (partition by trace_no, gpu_index order by bucket) as island
    from buckets

),

runs as (

    select
        trace_no,
        trace_id,
        gpu_index,
        min(start_ns) as start_ns,
        max(end_ns) as end_ns,
        cast(sum(bytes) as bigint) as bytes,
        max(gb_s) as peak_gb_s
    from numbered
    group by trace_no, trace_id, gpu_index, island

),

in_order as (

    select
        *,
        row_number() over (partition by trace_no, gpu_index order by start_ns) as burst,
        start_ns - lag(end_ns) over (partition by trace_no, gpu_index order by start_ns) as gap_ns
    from runs

),

covers as (

    {{ interval_intersection('in_order', 'phases', ['trace_no'], ['gpu_index', 'burst'], ['phase']) }}

),

covered as (

    select
        trace_no,
        gpu_index,
        burst,
        phase,
        sum(end_ns - start_ns) as covered_ns
    from covers
    group by trace_no, gpu_index, burst, phase

),

main_phases as (

    select
        trace_no,
        gpu_index,
        burst,
        -- of equals the first by name
        arg_min(phase, row(-covered_ns, phase)) as phase
    from covered
    group by trace_no, gpu_index, burst

),

final as (

    select
        in_order.*,
        main_phases.phase
    from in_order
    left join main_phases
        on
            in_order.trace_no = main_phases.trace_no
            and in_order.gpu_index = main_phases.gpu_index
            and in_order.burst = main_phases.burst

)

select * from final
