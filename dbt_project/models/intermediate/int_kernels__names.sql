with names as (

    select distinct
        kernel_name,
        demangled_name
    from {{ ref('stg_gpu_kernels') }}
    where {{ pending_filter('trace_id') }}

),

patterns as (

    select * from {{ ref('comm_kernel_patterns') }}

),

classed as (

    select
        names.kernel_name,
        names.demangled_name,
        coalesce(arg_min(patterns.class, patterns.priority), 'compute') as class,
        arg_min(patterns.library, patterns.priority) as library,
        arg_min(patterns.collective, patterns.priority) as collective
    from names
    left join patterns on regexp_matches(names.demangled_name, patterns.pattern)
    group by names.kernel_name, names.demangled_name

),

final as (

    select
        *,
        -- kernels that differ in template arguments only are one
        cast(dense_rank() over (order by kernel_name, class, library, collective) as integer) as kernel_no
    from classed

)

select * from final
