with source as (

    select * from {{ ref('int_requests__placed') }}

),

final as (

    select
        trace_id,
        path,
        line,
        request_index,
        role,
        succeeded,
        start_ns,
        first_token_ns,
        end_ns,
        is_in_window,
        input_tokens,
        output_tokens,
        unplaced_reason
    from source

)

select * from final
