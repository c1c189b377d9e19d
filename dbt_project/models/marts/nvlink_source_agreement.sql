with metrics as (

    select
        *,
        case when starts_with(family, 'nvlink_tx') then 'tx' else 'rx' end as direction,
        ends_with(family, '_all') as has_protocol
    from {{ ref('int_gpu_metrics__buckets') }}
    where family in ('nvlink_rx_payload', 'nvlink_tx_payload', 'nvlink_rx_all', 'nvlink_tx_all')

),

counters as (

    select * from {{ ref('int_nvlink__buckets') }}

),

polled as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

totals as (

    select * from {{ ref('int_nvlink__totals') }}

),

specs as (

    select * from {{ ref('gpu_link_specs') }}

),

-- NVML counts the payload: of both figures of nsys the one without protocol is compared
best as (

    select * from metrics
    qualify has_protocol = bool_and(has_protocol) over (partition by trace_no, gpu_index, direction)

),

-- a percentage is one of the peak of its direction, half of the peak of TX and RX together
sampled as (

    select
        best.trace_no,
        best.trace_id,
        best.gpu_index,
        best.direction,
        best.has_protocol,
        best.unit,
        best.bucket,
        best.end_ns - best.start_ns as bucket_ns,
        case best.unit
            when '%' then best.metric_value / 100 * specs.peak_gb_s / 2
            when 'bytes/s' then best.metric_value / 1e9
        end as nsys_gb_s
    from best
    semi join polled on best.trace_no = polled.trace_no and best.gpu_index = polled.gpu_index
    inner join totals on best.trace_no = totals.trace_no
    -- one row a GPU model
    left join specs on totals.gpu_model = specs.gpu_model

),

paired as (

    select
        sampled.*,
        case sampled.direction when 'tx' then counters.tx_bytes else counters.rx_bytes end as nvml_bytes
    from sampled
    left join counters
        on
            sampled.trace_no = counters.trace_no
            and sampled.gpu_index = counters.gpu_index
            and sampled.bucket = counters.bucket

),

summed as (

    select
        trace_id,
        gpu_index,
        direction,
        has_protocol,
        unit,
        count(nvml_bytes) as buckets,
        sum(nvml_bytes) as nvml_bytes,
        sum(nsys_gb_s * bucket_ns) filter (where nvml_bytes is not null) as nsys_bytes,
        corr(nsys_gb_s, nvml_bytes / bucket_ns) as correlation,
        avg(abs(nsys_gb_s - nvml_bytes / bucket_ns)) as mean_abs_diff_gb_s
    from paired
    group by all

),

final as (

    select
        trace_id,
        gpu_index,
        direction,
        has_protocol,
        buckets,
        cast(nvml_bytes as bigint) as nvml_bytes,
        cast(round(nsys_bytes) as bigint) as nsys_bytes,
        nsys_bytes / nullif(cast(nvml_bytes as double), 0) as ratio,
        case when isfinite(correlation) then correlation end as correlation,
        mean_abs_diff_gb_s,
        case
            when buckets = 0 then 'no bucket has both a counter interval and a sample'
            when unit is null then 'the unit of the metric is not known'
            when nsys_bytes is null then 'the NVLink peak of the GPU model is not known'
        end as reason
    from summed

)

select * from final
