with kernels as (

    select * from {{ ref('stg_gpu_kernels') }}
    where {{ pending_filter('trace_id') }}

),

names as (

    select * from {{ ref('int_kernels__names') }}

),

graphs as (

    select * from {{ ref('stg_graph_launches') }}
    where {{ pending_filter('trace_id') }}

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

phases as (

    select * from {{ ref('int_phase__windows') }}

),

steps as (

    select * from {{ ref('int_training__steps') }}

),

edges as (

    select
        trace_no,
        unnest([start_ns, end_ns]) as at_ns
    from phases
    union distinct
    select
        trace_no,
        unnest([start_ns, end_ns]) as at_ns
    from steps

),

executions as (

    select
        kernels.trace_id,
        {{ device_key('kernels.gpu_index', 'kernels.pid', 'kernels.device_id') }} as device,
        kernels.start_ns,
        kernels.end_ns,
        true as active,
        names.class in ('comm', 'fused') as comm,
        names.class not in ('comm', 'fused') as compute,
        false as hidden
    from kernels
    -- one row a pair of names
    inner join names
        on kernels.kernel_name = names.kernel_name and kernels.demangled_name = names.demangled_name
    union all by name
    -- the kernels inside of a graph that was traced as a whole cannot be told apart
    select
        trace_id,
        {{ device_key('gpu_index', 'pid', 'device_id') }} as device,
        start_ns,
        end_ns,
        false as active,
        false as comm,
        false as compute,
        true as hidden
    from graphs

),

spans as (

    select
        traces.trace_no,
        executions.device,
        executions.start_ns,
        executions.end_ns,
        executions.active,
        executions.comm,
        executions.compute,
        executions.hidden
    from executions
    inner join traces on executions.trace_id = traces.trace_id
    semi join edges on traces.trace_no = edges.trace_no

),

devices as (

    select distinct
        trace_no,
        device
    from spans

),

instants as (

    select
        devices.trace_no,
        devices.device,
        edges.at_ns
    from devices
    inner join edges on devices.trace_no = edges.trace_no

),

final as (

    {{ covered_until('spans', 'instants', ['trace_no', 'device'], ['active', 'comm', 'compute', 'hidden']) }}

)

select * from final
