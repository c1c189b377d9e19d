with kernels as (

    select * from {{ ref('comm_kernels') }}

),

final as (

    select
        trace_id,
        class,
        library,
        collective,
        count(distinct device) as devices,
        cast(sum(kernels) as bigint) as executions,
        sum(sum_s) as sum_s,
        sum(union_s) as union_s,
        1e6 * sum(sum_s) / sum(kernels) as mean_us,
        max(p99_us) as worst_p99_us,
        avg(kernel_time_pct) as mean_kernel_time_pct,
        any_value(reason) as reason
    from kernels
    group by trace_id, class, library, collective
    order by trace_id asc, sum_s desc, class asc, library asc, collective asc

)

select * from final
