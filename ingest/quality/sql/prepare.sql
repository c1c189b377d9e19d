-- What the facts of several tables are made of. The raw tables are views of their own names.

create or replace temp table profile_window as
select
    any_value(profile_start_ns) as start_ns,
    any_value(profile_end_ns) as end_ns
from traces
where profile_end_ns > profile_start_ns;

create or replace temp table nsys_session as
select
    min(wall_ns) filter (where name = 'nsys_session_start') as start_ns,
    max(wall_ns) filter (where name = 'nsys_capture_stop') as end_ns
from clock_markers;

create or replace temp table nvlink_keys as
with names as (

    select distinct
        gpu_index,
        link_id,
        direction
    from nvlink_samples

)

select
    *,
    -- one number a series: windows over a single key take half the time
    hash(gpu_index, link_id, direction) as series
from names;

-- How many counters a poll reads, where that is the same for all GPUs.
set variable nvlink_width = (
    select case when min(width) = max(width) then max(width) else 1 end
    from (
        select count(*) as width
        from nvlink_keys
        group by gpu_index
    ) as widths
);

-- A poller reads its counters in turn: the read before is then a poll's width above in the file, and nothing need
-- be sorted. That holds when every series but for its first read finds itself there, and time never runs back.
create or replace temp table nvlink_in_turn as
with reads as (

    select
        hash(gpu_index, link_id, direction) as series,
        sampled_ns,
        host_ns,
        counter_kib
    from nvlink_samples

),

above as (

    select
        *,
        lag(series, getvariable('nvlink_width')) over () as series_above,
        lag(sampled_ns, getvariable('nvlink_width')) over () as sampled_above_ns,
        lag(host_ns, getvariable('nvlink_width')) over () as host_above_ns,
        lag(counter_kib, getvariable('nvlink_width')) over () as kib_above
    from reads

),

steps as (

    select
        series,
        case when series = series_above then sampled_ns - sampled_above_ns end as step_ns,
        case when series = series_above then host_ns < host_above_ns end as is_late,
        case when series = series_above then counter_kib - kib_above end as kib
    from above

)

select
    series,
    count(*) as reads,
    count(*) filter (where step_ns is null) as firsts,
    count(*) filter (where step_ns < 0 or is_late) as backward,
    count(*) filter (where step_ns = 0) as repeats,
    count(*) filter (where step_ns > 0) as intervals,
    count(*) filter (where step_ns > 0 and kib < 0) as resets,
    count(*) filter (where step_ns > 0 and kib = 0) as zero_deltas,
    coalesce(sum(kib) filter (where kib > 0), 0) * 1024.0 as bytes
from steps
group by series;

-- one row a counter; reads that are not in turn are sorted
create or replace temp table nvlink_series as
with turns as (

    select coalesce(bool_and(firsts = 1 and backward = 0), true) as are_regular
    from nvlink_in_turn

),

reads as (

    select
        hash(gpu_index, link_id, direction) as series,
        sampled_ns,
        host_ns,
        counter_kib
    from nvlink_samples
    where not (select turns.are_regular from turns)

),

steps as (

    select
        series,
        sampled_ns - lag(sampled_ns) over in_order as step_ns,
        host_ns < lag(host_ns) over in_order as is_late,
        counter_kib - lag(counter_kib) over in_order as kib
    from reads
    window in_order as (partition by series order by sampled_ns, host_ns)

),

counted as (

    select
        series,
        count(*) as reads,
        count(*) filter (where step_ns = 0) as repeats,
        count(*) filter (where is_late) as late,
        count(*) filter (where step_ns > 0) as intervals,
        count(*) filter (where step_ns > 0 and kib < 0) as resets,
        count(*) filter (where step_ns > 0 and kib = 0) as zero_deltas,
        coalesce(sum(kib) filter (where kib > 0), 0) * 1024.0 as bytes
    from steps
    group by series
    union all by name
    select
        series,
        reads,
        repeats,
        0 as late,
        intervals,
        resets,
        zero_deltas,
        bytes
    from nvlink_in_turn
    where (select turns.are_regular from turns)

)

select
    keys.gpu_index,
    keys.link_id,
    keys.direction,
    counted.reads,
    counted.repeats,
    counted.late,
    counted.intervals,
    counted.resets,
    counted.zero_deltas,
    counted.bytes
from nvlink_keys as keys
inner join counted on keys.series = counted.series;

-- one row a call of NVML: its counters in sum, and the last of NVML's times, next to the host's own
create or replace temp table nvlink_polls as
with polls as (

    select
        gpu_index,
        host_ns,
        count(*) as reads,
        sum(counter_kib)::double as kib,
        max(sampled_ns) - host_ns as offset_ns,
        -- the sum's own time: counters of a poll are read one after another
        avg(sampled_ns - host_ns) as mean_offset_ns
    from nvlink_samples
    group by gpu_index, host_ns

)

select
    *,
    reads = max(reads) over (partition by gpu_index) as is_full,
    host_ns - lag(host_ns) over in_order as step_ns,
    offset_ns - lag(offset_ns) over in_order as offset_step_ns
from polls
window in_order as (partition by gpu_index order by host_ns);

create or replace temp table wall_offsets as
select
    gpu_index,
    quantile_disc(offset_ns, 0.5) as offset_ns,
    quantile_cont(offset_ns, 0.99) - quantile_cont(offset_ns, 0.01) as spread_ns
from nvlink_polls
group by gpu_index;

-- requests on the wall clock; without a start or an offset they have no place
create or replace temp table placed_requests as
with offsets as (

    select coalesce(
        (select quantile_disc(offset_ns, 0.5) from wall_offsets),
        (select quantile_disc(wall_ns - monotonic_ns, 0.5) from clock_markers)
    ) as offset_ns

),

starts as (

    select
        requests.*
        replace (case requests.start_clock
            when 'epoch' then requests.start_ns
            when 'monotonic' then requests.start_ns + offsets.offset_ns
        end as start_ns)
    from requests
    cross join offsets

)

select
    path,
    line,
    request_index,
    start_ns,
    start_ns + coalesce(try_cast(1e9 * e2e_s as bigint), 0) as end_ns
from starts;

-- the model that the product name tells, else the card's
create or replace temp table gpu_models as
select
    gpus.gpu_index,
    gpus.name is not null as is_observed,
    arg_min(lower(specs.gpu_model), specs.priority) as gpu_model,
    arg_min(specs.links, specs.priority) as links
from gpus
cross join traces
inner join gpu_link_specs as specs
    on regexp_matches(lower(coalesce(gpus.name, traces.gpu_model)), specs.name_pattern)
group by gpus.gpu_index, gpus.name is not null;

-- without a GPU the process's own device is the best name at hand
create or replace temp table kernel_devices as
select distinct
    gpu_index,
    case when gpu_index is null then pid end as pid,
    case when gpu_index is null then device_id end as device_id
from gpu_kernels;

create or replace temp table comm_kernel_names as
with names as (

    select distinct demangled_name
    from gpu_kernels

)

select names.demangled_name
from names
semi join comm_kernel_patterns as patterns on regexp_matches(names.demangled_name, patterns.pattern);
