with names as (

    select * from {{ ref('int_kernels__names') }}

),

final as (

    select
        kernel_no,
        kernel_name,
        class,
        library,
        collective,
        cast(dense_rank() over (order by class, library, collective) as integer) as collective_no,
        class in ('comm', 'fused') as is_comm,
        coalesce(class = 'comm' and library = 'nccl', false) as is_nccl
    from names
    group by kernel_no, kernel_name, class, library, collective

)

select * from final
