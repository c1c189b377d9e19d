with intervals as (

    select * from {{ ref('int_nvlink__intervals') }}

),

polled as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

series as (

    select * from {{ ref('int_nvlink__series') }}

),

devices as (

    select * from {{ ref('int_kernels__devices') }}

),

spans as (

    select * from {{ ref('int_comm__spans') }}

),

gpus as (

    select
        polled.trace_no,
        polled.gpu_index,
        devices.device_no,
        min(series.least_ns) as least_ns
    from polled
    -- one device a polled GPU that ran kernels
    inner join devices on polled.trace_no = devices.trace_no and polled.gpu_index = devices.gpu_index
    inner join series on polled.trace_no = series.trace_no and polled.gpu_index = series.gpu_index
    group by all

),

-- kernels in a row leave microseconds between them: such a gap does not part what comes before from what follows
bridged as (

    select
        device_no,
        collective_no,
        start_ns,
        case
            when
                lead(start_ns) over in_order - end_ns
                <= (1 - {{ var('min_interval_coverage') }}) * (end_ns - start_ns)
                then lead(start_ns) over in_order
            else end_ns
        end as end_ns
    from spans
    window in_order as (partition by device_no, collective_no order by start_ns)

),

rows_of_kernels as (

    {{ interval_union('bridged', ['device_no', 'collective_no']) }}

),

-- what is shorter than every interval holds none
long_rows as (

    select
        rows_of_kernels.device_no,
        rows_of_kernels.collective_no,
        rows_of_kernels.start_ns,
        rows_of_kernels.end_ns
    from rows_of_kernels
    inner join gpus on rows_of_kernels.device_no = gpus.device_no
    where rows_of_kernels.end_ns - rows_of_kernels.start_ns >= gpus.least_ns

),

row_cells as (

    {{ interval_cells('long_rows', ['device_no', 'collective_no']) }}

),

held as (

    select
        gpus.device_no,
        row_cells.collective_no,
        intervals.link_id,
        intervals.is_tx,
        intervals.bytes,
        intervals.start_ns,
        intervals.end_ns,
        intervals.start_ns as read_ns,
        intervals.end_ns - intervals.start_ns as length_ns
    from intervals
    inner join gpus on intervals.trace_no = gpus.trace_no and intervals.gpu_index = gpus.gpu_index
    inner join row_cells on gpus.device_no = row_cells.device_no and intervals.start_ns >> 24 = row_cells.cell
    where
        intervals.bytes is not null
        and intervals.start_ns >= row_cells.start_ns
        and intervals.end_ns <= row_cells.end_ns

),

running as (

    {{ interval_intersection(
        'held', 'spans', ['device_no', 'collective_no'], ['link_id', 'is_tx', 'bytes', 'read_ns', 'length_ns'], []
    ) }}

),

filled as (

    select
        device_no,
        collective_no,
        link_id,
        is_tx,
        bytes,
        sum(end_ns - start_ns) as covered_ns
    from running
    group by device_no, collective_no, link_id, is_tx, read_ns, bytes, length_ns
    having sum(end_ns - start_ns) >= {{ var('min_interval_coverage') }} * length_ns

),

final as (

    select
        device_no,
        collective_no,
        link_id,
        is_tx,
        sum(bytes) as bytes,
        sum(covered_ns) as covered_ns
    from filled
    group by device_no, collective_no, link_id, is_tx

)

select * from final
