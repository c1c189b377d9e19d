with executions as (

    select * from {{ ref('int_kernels__executions') }}
    where is_comm

),

kinds as (

    select * from {{ ref('int_kernels__kinds') }}

),

grouped as (

    select
        executions.device_no,
        kinds.collective_no,
        executions.start_ns,
        executions.end_ns
    from executions
    inner join kinds on executions.kernel_no = kinds.kernel_no

),

final as (

    {{ interval_union('grouped', ['device_no', 'collective_no']) }}

)

select * from final
