with phases as (

    select * from {{ ref('int_phase__windows') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

spread as (

    select
        phases.trace_no,
        phases.phase,
        phases.start_ns,
        phases.end_ns,
        windows.window_start_ns,
        windows.window_end_ns,
        unnest(
            range(
                (phases.start_ns - windows.window_start_ns) // {{ bucket_ns() }},
                (phases.end_ns - 1 - windows.window_start_ns) // {{ bucket_ns() }} + 1
            )
        ) as bucket
    from phases
    inner join windows on phases.trace_no = windows.trace_no

),

final as (

    select
        trace_no,
        phase,
        bucket,
        greatest(start_ns, window_start_ns + bucket * {{ bucket_ns() }}) as start_ns,
        least(end_ns, window_start_ns + (bucket + 1) * {{ bucket_ns() }}) as end_ns,
        start_ns <= window_start_ns + bucket * {{ bucket_ns() }}
        and end_ns >= least(window_start_ns + (bucket + 1) * {{ bucket_ns() }}, window_end_ns) as is_whole
    from spread

)

select * from final
