with traces as (

    select * from {{ ref('int_trace__pending') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

cells as (

    select
        trace_no,
        gpu_index,
        legacy_bucket,
        legacy_part,
        -- the older script reads a reset as no traffic
        coalesce(sum(tx_bytes + rx_bytes), 0) as bytes
    from {{ ref('int_nvlink__cells') }}
    group by trace_no, gpu_index, legacy_bucket, legacy_part

),

buckets as (

    select
        trace_no,
        gpu_index,
        sum(bytes) / 1e7 as gb_s
    from cells
    group by trace_no, gpu_index, legacy_bucket

),

peaks as (

    select
        trace_no,
        gpu_index,
        max(gb_s) as peak_gb_s,
        count(*) filter (where gb_s > 60) * 0.01 as burst_s
    from buckets
    group by trace_no, gpu_index

),

gpu_bytes as (

    select
        trace_no,
        gpu_index,
        sum(bytes) as bytes,
        coalesce(sum(bytes) filter (where legacy_part = 1), 0) as prefill_bytes,
        coalesce(sum(bytes) filter (where legacy_part = 2), 0) as decode_bytes
    from cells
    group by trace_no, gpu_index

),

gpu_totals as (

    select
        gpu_bytes.trace_no,
        gpu_bytes.gpu_index,
        gpu_bytes.bytes,
        gpu_bytes.bytes / nullif(gpus.last_sample_ns - gpus.first_sample_ns, 0) as avg_gb_s,
        gpu_bytes.prefill_bytes / 1e9 as prefill_gb_s,
        gpu_bytes.decode_bytes / nullif(
            greatest(
                gpus.last_sample_ns - greatest(gpus.first_sample_ns, traces.profile_start_ns) - 1000000000, 0
            ),
            0
        ) as decode_gb_s
    from gpu_bytes
    inner join traces on gpu_bytes.trace_no = traces.trace_no
    inner join gpus on gpu_bytes.trace_no = gpus.trace_no and gpu_bytes.gpu_index = gpus.gpu_index

),

links as (

    select
        gpu_totals.trace_no,
        sum(gpu_totals.bytes) / 1e9 as total_nvlink_gb,
        max(peaks.peak_gb_s) as peak_nvlink_gb_s,
        avg(gpu_totals.avg_gb_s) as avg_nvlink_gb_s,
        avg(peaks.burst_s) as burst_duration_s,
        avg(gpu_totals.prefill_gb_s) as prefill_avg_bw_gb_s,
        avg(gpu_totals.decode_gb_s) as decode_avg_bw_gb_s
    from gpu_totals
    inner join peaks on gpu_totals.trace_no = peaks.trace_no and gpu_totals.gpu_index = peaks.gpu_index
    group by gpu_totals.trace_no

),

kernels as (

    select
        trace_no,
        100 * cast(sum(legacy_nccl_ns) as double) / nullif(sum(legacy_kernel_ns), 0) as nccl_contribution_pct
    from {{ ref('int_kernels__activity') }}
    group by trace_no

),

final as (

    select
        traces.trace_no,
        traces.trace_id,
        links.total_nvlink_gb,
        links.peak_nvlink_gb_s,
        links.avg_nvlink_gb_s,
        links.peak_nvlink_gb_s / nullif(links.avg_nvlink_gb_s, 0) as burst_intensity,
        cast(links.burst_duration_s as double) as burst_duration_s,
        100 * links.avg_nvlink_gb_s / 600 as bw_usage_pct,
        links.prefill_avg_bw_gb_s,
        links.decode_avg_bw_gb_s,
        kernels.nccl_contribution_pct
    from traces
    left join links on traces.trace_no = links.trace_no
    left join kernels on traces.trace_no = kernels.trace_no

)

select * from final
