with traces as (

    select * from {{ ref('int_trace__pending') }}

),

devices as (

    select distinct
        trace_id,
        gpu_index,
        -- a process's own ordinal stands in where the export maps no GPU
        case when gpu_index is null then pid end as pid,
        case when gpu_index is null then device_id end as device_id
    from {{ ref('stg_gpu_kernels') }}
    where {{ pending_filter('trace_id') }}

),

final as (

    select
        traces.trace_no,
        traces.trace_id,
        -- stands for the trace too: windows over a single key take half the time
        cast(
            row_number() over (order by traces.trace_no, devices.gpu_index, devices.pid, devices.device_id) as integer
        ) as device_no,
        coalesce(
            'gpu ' || devices.gpu_index,
            'pid ' || devices.pid || ' device ' || devices.device_id,
            'device ' || devices.device_id
        ) as device,
        devices.gpu_index,
        devices.pid,
        devices.device_id
    from devices
    inner join traces on devices.trace_id = traces.trace_id

)

select * from final
