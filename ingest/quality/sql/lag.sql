-- Two signals a GPU, each constant between its changes: communication kernels that run, and bytes a ns over
-- NVLink. A change at t counts in its grid cell twice: `change`, and `part`, what it adds to that cell itself.
-- In cell i the signal's integral is then cell_ns * (sum of change before i) + part. One sort serves any number
-- of kernels of any length. The table lag_grid has the GPU and the grid.
with counters as (

    -- windows over the polls of one GPU, not of all
    select
        polls.gpu_index,
        polls.host_ns + polls.mean_offset_ns::bigint as at_ns,
        polls.kib
    from nvlink_polls as polls
    semi join lag_grid as grid on polls.gpu_index = grid.gpu_index
    where polls.is_full

),

rates as (

    select
        gpu_index,
        at_ns,
        -- a reset moved nothing that is known
        greatest(kib - lag(kib) over in_order, 0) * 1024 / nullif(at_ns - lag(at_ns) over in_order, 0) as rate
    from counters
    window in_order as (partition by gpu_index order by at_ns)

),

sending as (

    select
        gpu_index,
        at_ns,
        coalesce(lead(rate) over in_order, 0) - coalesce(rate, 0) as change
    from rates
    window in_order as (partition by gpu_index order by at_ns)

),

running as (

    select
        kernels.gpu_index,
        kernels.start_ns,
        kernels.end_ns
    from gpu_kernels as kernels
    semi join comm_kernel_names as names on kernels.demangled_name = names.demangled_name
    where kernels.end_ns > kernels.start_ns

),

changes as (

    select
        gpu_index,
        'traffic' as signal,
        at_ns,
        change
    from sending
    union all
    select
        gpu_index,
        'kernels' as signal,
        start_ns as at_ns,
        1 as change
    from running
    union all
    select
        gpu_index,
        'kernels' as signal,
        end_ns as at_ns,
        -1 as change
    from running

),

-- what came before the grid counts as at its start
placed as (

    select
        changes.signal,
        greatest(changes.at_ns, grid.start_ns) - grid.start_ns as at_ns,
        grid.cell_ns,
        changes.change
    from changes
    inner join lag_grid as grid on changes.gpu_index = grid.gpu_index and changes.at_ns < grid.end_ns

)

select
    signal,
    at_ns // cell_ns as cell,
    sum(change)::double as change,
    sum(change * ((at_ns // cell_ns + 1) * cell_ns - at_ns))::double as part
from placed
group by signal, cell
