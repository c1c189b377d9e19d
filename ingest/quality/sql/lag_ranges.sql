-- GPUs with counters: when they were read, when kernels were seen, when communication ran
with kernels as (

    select
        gpu_index,
        min(start_ns) as first_ns,
        max(end_ns) as last_ns
    from gpu_kernels
    group by gpu_index

),

comm as (

    select
        kernels.gpu_index,
        min(kernels.start_ns) as first_ns,
        count(*) as kernels
    from gpu_kernels as kernels
    semi join comm_kernel_names as names on kernels.demangled_name = names.demangled_name
    group by kernels.gpu_index

),

polls as (

    select
        gpu_index,
        min(host_ns + mean_offset_ns::bigint) as first_ns,
        max(host_ns + mean_offset_ns::bigint) as last_ns,
        quantile_cont(step_ns, 0.5) as interval_ns
    from nvlink_polls
    where is_full
    group by gpu_index

)

select
    polls.gpu_index,
    polls.first_ns as first_read_ns,
    polls.last_ns as last_read_ns,
    polls.interval_ns,
    kernels.first_ns as first_kernel_ns,
    kernels.last_ns as last_kernel_ns,
    comm.first_ns as first_comm_ns,
    coalesce(comm.kernels, 0) as comm_kernels
from polls
left join kernels on polls.gpu_index = kernels.gpu_index
left join comm on polls.gpu_index = comm.gpu_index
order by polls.gpu_index
