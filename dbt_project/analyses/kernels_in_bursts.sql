with bursts as (

    select
        trace_id,
        count(*) as trace_bursts,
        sum(end_ns - start_ns) as trace_burst_ns
    from {{ ref('nvlink_bursts') }}
    group by trace_id

),

kernels as (

    select
        trace_id,
        kernel_name,
        class,
        library,
        collective,
        count(*) as bursts,
        sum(executions) as executions,
        sum(overlap_ns) as overlap_ns
    from {{ ref('burst_kernels') }}
    group by trace_id, kernel_name, class, library, collective

),

final as (

    select
        kernels.trace_id,
        kernels.kernel_name,
        kernels.class,
        kernels.library,
        kernels.collective,
        kernels.bursts,
        100 * kernels.bursts / bursts.trace_bursts as bursts_pct,
        cast(kernels.executions as bigint) as executions,
        100 * kernels.overlap_ns / bursts.trace_burst_ns as burst_time_pct
    from kernels
    inner join bursts on kernels.trace_id = bursts.trace_id  -- one row a trace
    order by kernels.trace_id asc, burst_time_pct desc, kernels.kernel_name asc

)

select * from final
