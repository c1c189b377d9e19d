with executions as (

    select * from {{ ref('int_kernels__executions') }}
    where is_comm

),

final as (

    {{ interval_union('executions', ['device_no', 'collective_no']) }}

)

select * from final
