with series as (

    select * from {{ ref('int_nvlink__series') }}

),

covered as (

    select * from {{ ref('int_comm__covered') }}

),

spans as (

    select * from {{ ref('int_comm__spans') }}

),

totals as (

    select * from {{ ref('int_comm__totals') }}

),

executions as (

    select * from {{ ref('int_kernels__executions') }}
    where is_comm

),

kinds as (

    select * from {{ ref('int_kernels__kinds') }}

),

named as (

    select distinct
        collective_no,
        class,
        library,
        collective
    from kinds

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

kernel_lengths as (

    select
        device_no,
        collective_no,
        count(*) as kernels,
        median(end_ns - start_ns) as median_ns
    from executions
    group by device_no, collective_no

),

span_lengths as (

    select
        device_no,
        collective_no,
        sum(end_ns - start_ns) as union_ns
    from spans
    group by device_no, collective_no

),

polls as (

    select
        devices.device_no,
        count(*) as series,
        median(series.median_ns) as median_ns
    from series
    inner join devices on series.trace_no = devices.trace_no and series.gpu_index = devices.gpu_index
    group by devices.device_no

),

-- links are read at times of their own: rates add up, bytes do not
rates as (

    select
        device_no,
        collective_no,
        count(*) as series,
        min(covered_ns) as covered_ns,
        cast(sum(bytes) as bigint) as bytes,
        sum(bytes / cast(covered_ns as double)) filter (where is_tx) as tx_gb_s,
        sum(bytes / cast(covered_ns as double)) filter (where not is_tx) as rx_gb_s
    from covered
    group by device_no, collective_no

),

measured as (

    select
        devices.trace_id,
        devices.device,
        devices.gpu_index,
        named.class,
        named.library,
        named.collective,
        kernel_lengths.kernels,
        kernel_lengths.median_ns / 1e3 as median_kernel_us,
        span_lengths.union_ns / 1e9 as union_s,
        polls.median_ns / 1e3 as read_interval_us,
        case
            when rates.series = polls.series then rates.covered_ns
            when polls.series > 0 then 0
        end / cast(span_lengths.union_ns as double) as covered_share,
        rates.bytes,
        rates.tx_gb_s,
        rates.rx_gb_s,
        totals.comm_reason
    from kernel_lengths
    inner join span_lengths
        on
            kernel_lengths.device_no = span_lengths.device_no
            and kernel_lengths.collective_no = span_lengths.collective_no
    inner join named on kernel_lengths.collective_no = named.collective_no
    inner join devices on kernel_lengths.device_no = devices.device_no
    inner join totals on devices.trace_no = totals.trace_no
    left join polls on kernel_lengths.device_no = polls.device_no
    left join rates
        on kernel_lengths.device_no = rates.device_no and kernel_lengths.collective_no = rates.collective_no

),

judged as (

    select
        *,
        case
            when comm_reason is not null then comm_reason
            when gpu_index is null then 'the export maps the device to no GPU'
            when covered_share is null then 'the trace has no NVLink counter reads of this GPU'
            when covered_share < {{ var('min_collective_coverage') }}
                then
                    'counter reads ' || round(read_interval_us, 1) || ' us apart are filled by '
                    || round(100 * covered_share, 1) || ' % of the time of kernels of ' || round(median_kernel_us, 1)
                    || ' us (median): too coarse'
        end as reason
    from measured

),

final as (

    select
        trace_id,
        device,
        gpu_index,
        class,
        library,
        collective,
        kernels,
        union_s,
        median_kernel_us,
        read_interval_us,
        100 * covered_share as covered_pct,
        case when reason is null then bytes end as covered_bytes,
        case when reason is null then coalesce(tx_gb_s, 0) + coalesce(rx_gb_s, 0) end as gb_s,
        case when reason is null then tx_gb_s end as tx_gb_s,
        case when reason is null then rx_gb_s end as rx_gb_s,
        reason
    from judged

)

select * from final
