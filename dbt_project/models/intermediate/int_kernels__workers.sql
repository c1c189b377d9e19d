with kernels as (

    select distinct
        trace_id,
        gpu_index,
        device_id,
        pid,
        rank
    from {{ ref('stg_gpu_kernels') }}
    where {{ pending_filter('trace_id') }}

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

final as (

    select distinct
        traces.trace_no,
        {{ device_key('kernels.gpu_index', 'kernels.pid', 'kernels.device_id') }} as device,
        coalesce('rank ' || kernels.rank, 'pid ' || kernels.pid) as worker
    from kernels
    inner join traces on kernels.trace_id = traces.trace_id

)

select * from final
