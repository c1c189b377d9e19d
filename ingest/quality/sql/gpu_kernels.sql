with gpus_seen as (

    -- without a GPU the process's own device is the best name at hand
    select distinct
        gpu_index,
        case when gpu_index is null then pid end as pid,
        case when gpu_index is null then device_id end as device_id
    from gpu_kernels

)

select
    'gpus_with_kernels' as fact,
    null as subject,
    count(*) as value,
    null as text
from gpus_seen
