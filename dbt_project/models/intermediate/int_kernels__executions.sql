with kernels as (

    select * from {{ ref('int_kernels__numbered') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

final as (

    select
        kernels.device_no,
        kernels.kernel_no,
        kernels.collective_no,
        kernels.is_comm,
        kernels.is_nccl,
        {{ interval_clip('kernels.start_ns', 'kernels.end_ns', 'windows.window_start_ns', 'windows.window_end_ns') }},
        kernels.end_ns - kernels.start_ns as whole_ns,
        kernels.launch_ns
    from kernels
    -- one window a trace
    inner join windows on kernels.trace_no = windows.trace_no
    where {{ intervals_meet('kernels.start_ns', 'kernels.end_ns', 'windows.window_start_ns', 'windows.window_end_ns') }}

)

select * from final
