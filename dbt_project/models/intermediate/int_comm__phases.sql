with phases as (

    select
        trace_no,
        phase,
        start_ns,
        end_ns
    from {{ ref('int_phase__windows') }}

),

windows as (

    select
        trace_no,
        window_start_ns as start_ns,
        window_end_ns as end_ns
    from {{ ref('int_profile__windows') }}
    where window_source is not null

),

outside as (

    {{ interval_difference('windows', 'phases', ['trace_no']) }}

),

final as (

    select * from phases
    union all by name
    select
        trace_no,
        'none' as phase,
        start_ns,
        end_ns
    from outside

)

select * from final
