-- table_name, fact, subject, value, text: wall time against the monotonic clock, nsys against the markers
with spans as (

    select
        gpu_index,
        min(host_ns) as first_ns,
        (max(host_ns) - min(host_ns)) / 10 as tenth_ns
    from nvlink_polls
    group by gpu_index

),

drifts as (

    select
        polls.gpu_index,
        quantile_cont(polls.offset_ns, 0.5) filter (where polls.host_ns >= spans.first_ns + 9 * spans.tenth_ns)
        - quantile_cont(polls.offset_ns, 0.5) filter (where polls.host_ns <= spans.first_ns + spans.tenth_ns)
            as drift_ns,
        arg_max(polls.offset_step_ns, abs(polls.offset_step_ns)) as step_ns
    from nvlink_polls as polls
    inner join spans on polls.gpu_index = spans.gpu_index
    group by polls.gpu_index

),

markers as (

    select
        name,
        any_value(wall_ns) as wall_ns,
        any_value(monotonic_ns) as monotonic_ns
    from clock_markers
    where not starts_with(name, 'nsys_session') and not starts_with(name, 'nsys_capture')
    group by name

),

reference as (

    select quantile_disc(offset_ns, 0.5) as offset_ns
    from wall_offsets

)

select
    'nvlink_samples' as table_name,
    'wall_offset_ns' as fact,
    'gpu ' || gpu_index as subject,
    offset_ns::double as value,
    offset_ns::varchar as text
from wall_offsets
union all
select
    'nvlink_samples' as table_name,
    'wall_offset_spread_us' as fact,
    'gpu ' || gpu_index as subject,
    spread_ns / 1e3 as value,
    null as text
from wall_offsets
union all
select
    'nvlink_samples' as table_name,
    'wall_offset_drift_ms' as fact,
    'gpu ' || gpu_index as subject,
    drift_ns / 1e6 as value,
    null as text
from drifts
union all
select
    'nvlink_samples' as table_name,
    'wall_offset_step_ms' as fact,
    'gpu ' || gpu_index as subject,
    step_ns / 1e6 as value,
    null as text
from drifts
union all
select
    'clock_markers' as table_name,
    'marker_offset_difference_ms' as fact,
    markers.name as subject,
    (markers.wall_ns - markers.monotonic_ns - reference.offset_ns) / 1e6 as value,
    null as text
from markers
cross join reference
where markers.monotonic_ns is not null
union all
select
    'clock_markers' as table_name,
    'session_after_marker_ms' as fact,
    null as subject,
    (nsys_session.start_ns - markers.wall_ns) / 1e6 as value,
    null as text
from nsys_session
inner join markers on markers.name = 'nsys_start'
where nsys_session.start_ns is not null
union all
select
    'clock_markers' as table_name,
    'window_s' as fact,
    null as subject,
    (ends.wall_ns - starts.wall_ns) / 1e9 as value,
    null as text
from markers as starts
inner join markers as ends on starts.name = 'profile_start' and ends.name = 'profile_end'
