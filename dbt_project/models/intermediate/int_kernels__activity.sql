with kernels as (

    select * from {{ ref('stg_gpu_kernels') }}
    where {{ pending_filter('trace_id') }}

),

names as (

    select * from {{ ref('int_kernels__names') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

classed as (

    select
        windows.trace_no,
        windows.trace_id,
        -- a process's own ordinal stands in where the export maps no GPU
        coalesce('gpu ' || kernels.gpu_index, 'pid ' || kernels.pid || ' device ' || kernels.device_id) as device,
        greatest(kernels.start_ns, windows.window_start_ns) as start_ns,
        least(kernels.end_ns, windows.window_end_ns) as end_ns,
        kernels.end_ns - kernels.start_ns as whole_ns,
        names.class in ('comm', 'fused') as is_comm,
        names.class = 'comm' and names.library = 'nccl' as is_nccl,
        contains(names.kernel_name, 'nccl') as is_named_nccl
    from kernels
    -- one row a pair of names
    inner join names
        on kernels.kernel_name = names.kernel_name and kernels.demangled_name = names.demangled_name
    inner join windows on kernels.trace_id = windows.trace_id
    where kernels.end_ns > windows.window_start_ns and kernels.start_ns < windows.window_end_ns

),

marked as (

    select
        *,
        {{ previous_end_ns('end_ns', 'trace_no, device', 'start_ns, end_ns') }} as any_before_ns,
        {{ previous_end_ns('end_ns', 'trace_no, device', 'start_ns, end_ns', 'is_comm') }} as comm_before_ns,
        {{ previous_end_ns('end_ns', 'trace_no, device', 'start_ns, end_ns', 'is_nccl') }} as nccl_before_ns,
        {{ previous_end_ns('end_ns', 'trace_no, device', 'start_ns, end_ns', 'not is_comm') }} as compute_before_ns
    from classed

),

final as (

    select
        trace_no,
        trace_id,
        device,
        count(*) as kernels,
        count(*) filter (where is_comm) as comm_kernels,
        cast(sum({{ uncovered_ns('start_ns', 'end_ns', 'any_before_ns') }}) as bigint) as active_ns,
        cast(
            coalesce(sum({{ uncovered_ns('start_ns', 'end_ns', 'comm_before_ns') }}) filter (where is_comm), 0) as bigint
        ) as comm_ns,
        cast(
            coalesce(sum({{ uncovered_ns('start_ns', 'end_ns', 'nccl_before_ns') }}) filter (where is_nccl), 0) as bigint
        ) as nccl_ns,
        cast(
            coalesce(sum({{ uncovered_ns('start_ns', 'end_ns', 'compute_before_ns') }}) filter (where not is_comm), 0) as bigint
        ) as compute_ns,
        cast(sum(end_ns - start_ns) as bigint) as kernel_ns,
        cast(coalesce(sum(end_ns - start_ns) filter (where is_nccl), 0) as bigint) as nccl_kernel_ns,
        cast(sum(whole_ns) as bigint) as legacy_kernel_ns,
        cast(coalesce(sum(whole_ns) filter (where is_named_nccl), 0) as bigint) as legacy_nccl_ns
    from marked
    group by trace_no, trace_id, device

)

select * from final
