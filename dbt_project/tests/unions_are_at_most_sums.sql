-- Kernel time: NCCL's is part of communication's, that of the device's activity, whose union is at most the plain sum
-- and at most the window.
select
    activity.*,
    windows.window_end_ns - windows.window_start_ns as window_ns
from {{ ref('int_kernels__activity') }} as activity
inner join {{ ref('int_profile__windows') }} as windows on activity.trace_no = windows.trace_no
where
    activity.nccl_ns > activity.comm_ns
    or activity.comm_ns > activity.active_ns
    or activity.compute_ns > activity.active_ns
    or activity.active_ns > activity.comm_ns + activity.compute_ns
    or activity.active_ns > windows.window_end_ns - windows.window_start_ns
    or activity.nccl_kernel_ns > activity.kernel_ns
