with medians as (

    select
        gpu_index,
        quantile_cont(step_ns, 0.5) as median_ns,
        quantile_cont(step_ns, 0.99) as p99_ns,
        max(step_ns) as longest_ns,
        count(*) as polls,
        count(*) filter (where not is_full) as incomplete
    from nvlink_polls
    group by gpu_index

),

missed as (

    select
        polls.gpu_index,
        coalesce(sum(greatest(round(polls.step_ns / nullif(medians.median_ns, 0)) - 1, 0)), 0) as missed
    from nvlink_polls as polls
    inner join medians on polls.gpu_index = medians.gpu_index
    group by polls.gpu_index

),

-- polls that lack a counter would look like a fall and a rise
full_polls as (

    select
        gpu_index,
        host_ns,
        host_ns - lag(host_ns) over in_order as step_ns,
        kib - lag(kib) over in_order as kib
    from nvlink_polls
    where is_full
    window in_order as (partition by gpu_index order by host_ns)

),

-- a plateau lasts from a poll that saw a change (or the first poll) to the poll before the next change
changes as (

    select
        gpu_index,
        host_ns - step_ns - lag(host_ns) over (partition by gpu_index order by host_ns) as length_ns,
        host_ns - step_ns as before_ns,
        host_ns
    from full_polls
    where kib != 0

),

ends as (

    select
        gpu_index,
        min(host_ns) as first_ns,
        max(host_ns) as last_ns
    from full_polls
    group by gpu_index

),

plateaus as (

    select
        ends.gpu_index,
        greatest(
            max(changes.length_ns),
            coalesce(min(changes.before_ns), any_value(ends.last_ns)) - any_value(ends.first_ns),
            any_value(ends.last_ns) - max(changes.host_ns)
        ) as longest_ns
    from ends
    left join changes on ends.gpu_index = changes.gpu_index
    group by ends.gpu_index

),

peaks as (

    select
        full_polls.gpu_index,
        max(full_polls.kib * 1024.0 / full_polls.step_ns) as gb_s
    from full_polls
    inner join medians
        on
            full_polls.gpu_index = medians.gpu_index
            and full_polls.step_ns > 0
            and full_polls.step_ns >= medians.median_ns / 2
    group by full_polls.gpu_index

),

links as (

    select
        gpu_index,
        link_id,
        sum(bytes) as bytes,
        count(*) as directions
    from nvlink_series
    group by gpu_index, link_id

),

link_counts as (

    select
        gpu_index,
        nullif(count(link_id), 0) as links_seen,
        count(*) filter (where bytes = 0 and link_id is not null) as idle_links,
        count(*) filter (where directions = 1) as one_way,
        max(bytes) filter (where link_id is not null) > 0 as has_traffic
    from links
    group by gpu_index

),

series as (

    select
        gpu_index,
        sum(resets) as resets,
        100 * sum(zero_deltas) / nullif(sum(intervals), 0) as zero_delta_pct,
        coalesce(sum(bytes) filter (where direction = 'tx'), 0) as tx_bytes,
        coalesce(sum(bytes) filter (where direction = 'rx'), 0) as rx_bytes
    from nvlink_series
    group by gpu_index

),

by_gpu as (

    select
        'gpu ' || medians.gpu_index as subject,
        medians.polls::double as polls,
        medians.incomplete::double as incomplete_polls,
        medians.median_ns / 1e6 as poll_interval_p50_ms,
        medians.p99_ns / 1e6 as poll_interval_p99_ms,
        medians.longest_ns / 1e6 as poll_interval_max_ms,
        missed.missed as missed_polls,
        100 * missed.missed / (missed.missed + medians.polls) as missed_polls_pct,
        series.resets::double as counter_resets,
        series.zero_delta_pct,
        plateaus.longest_ns / 1e6 as longest_plateau_ms,
        peaks.gb_s as peak_interval_gb_s,
        link_counts.links_seen::double as links_seen,
        (gpu_models.links - link_counts.links_seen)::double as links_missing,
        case
            when link_counts.links_seen is null then null
            when link_counts.has_traffic then link_counts.idle_links
            else 0
        end::double as idle_links,
        link_counts.one_way::double as one_way_series,
        series.tx_bytes::double as tx_bytes,
        series.rx_bytes::double as rx_bytes
    from medians
    inner join missed on medians.gpu_index = missed.gpu_index
    inner join series on medians.gpu_index = series.gpu_index
    inner join link_counts on medians.gpu_index = link_counts.gpu_index
    left join plateaus on medians.gpu_index = plateaus.gpu_index
    left join peaks on medians.gpu_index = peaks.gpu_index
    left join gpu_models on medians.gpu_index = gpu_models.gpu_index

),

facts as (

    select
        fact,
        subject,
        value
    from by_gpu unpivot include nulls (value for fact in (columns(* exclude (subject))))

),

flows as (

    select
        case when count(*) over () = 2 then 'gpu ' || sender.gpu_index || ' to gpu ' || receiver.gpu_index end
            as subject,
        sender.tx_bytes as sent,
        receiver.rx_bytes as received
    from series as sender
    inner join series as receiver on sender.gpu_index != receiver.gpu_index
    where (select count(*) from series) = 2
    union all
    select
        null as subject,
        sum(tx_bytes) as sent,
        sum(rx_bytes) as received
    from series
    having count(*) > 2

),

failed as (

    select coalesce(sum(row_count), 0) as rows
    from ingest_skips
    -- 3 is NOT_SUPPORTED: no NVLink, which is no failure
    where table_name = 'nvlink_samples' and starts_with(code, 'nvml_error_') and code != 'nvml_error_3'

),

reads as (

    select
        coalesce(sum(reads), 0) as rows,
        coalesce(sum(repeats), 0) as repeats,
        coalesce(sum(backward), 0) as backward
    from nvlink_series

)

select
    fact,
    subject,
    value,
    null as text
from facts
union all
select
    'tx_rx_difference_pct' as fact,
    subject,
    case when greatest(sent, received) >= 1e6 then 100 * abs(sent - received) / greatest(sent, received) end as value,
    null as text
from flows
union all
select
    'failed_reads' as fact,
    null as subject,
    rows as value,
    null as text
from failed
union all
select
    'failed_reads_pct' as fact,
    null as subject,
    coalesce(100 * failed.rows / nullif(failed.rows + reads.rows, 0), 0) as value,
    null as text
from failed
cross join reads
union all
select
    'duplicate_rows' as fact,
    null as subject,
    repeats as value,
    null as text
from reads
union all
select
    'unordered_rows' as fact,
    null as subject,
    backward as value,
    null as text
from reads
