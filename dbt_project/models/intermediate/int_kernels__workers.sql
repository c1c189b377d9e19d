with steps as (

    select * from {{ ref('int_training__steps') }}

),

kernels as (

    select distinct
        trace_id,
        gpu_index,
        case when gpu_index is null then pid end as own_pid,
        case when gpu_index is null then device_id end as own_device_id,
        coalesce('rank ' || rank, 'pid ' || pid) as worker
    from {{ ref('stg_gpu_kernels') }}
    where {{ pending_filter('trace_id') }} and trace_id in (select steps.trace_id from steps)

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

final as (

    select
        devices.trace_no,
        devices.device_no,
        kernels.worker
    from kernels
    inner join devices
        on
            kernels.trace_id = devices.trace_id
            and kernels.gpu_index is not distinct from devices.gpu_index
            and kernels.own_pid is not distinct from devices.pid
            and kernels.own_device_id is not distinct from devices.device_id
    where kernels.worker is not null

)

select * from final
