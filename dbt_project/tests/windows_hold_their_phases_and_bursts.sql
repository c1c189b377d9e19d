with windows as (

    select * from {{ ref('int_profile__windows') }}

),

parts as (

    select
        trace_id,
        'phase ' || phase as part,
        start_ns,
        end_ns
    from {{ ref('phase_windows') }}
    where {{ pending_filter('trace_id') }}
    union all
    select
        trace_id,
        'burst ' || burst as part,
        start_ns,
        end_ns
    from {{ ref('nvlink_bursts') }}
    where {{ pending_filter('trace_id') }}
    union all
    select
        trace_id,
        'bucket ' || bucket as part,
        start_ns,
        end_ns
    from {{ ref('nvlink_bandwidth') }}
    where {{ pending_filter('trace_id') }}

)

select
    parts.*,
    windows.window_start_ns,
    windows.window_end_ns
from parts
left join windows on parts.trace_id = windows.trace_id
where not coalesce(parts.start_ns >= windows.window_start_ns and parts.end_ns <= windows.window_end_ns, false)
