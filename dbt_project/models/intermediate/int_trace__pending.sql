with pending as (

    select * from memory.main.pending_traces

),

traces as (

    select * from {{ ref('stg_traces') }}
    where {{ pending_filter('trace_id') }}

),

final as (

    select
        pending.trace_no,
        pending.waiting_traces,
        traces.*
    from traces
    -- one row a trace on both sides
    inner join pending on traces.trace_id = pending.trace_id

)

select * from final
