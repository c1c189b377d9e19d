with intervals as (

    select
        trace_no,
        gpu_index,
        start_ns,
        end_ns,
        -- the older script reads a reset as no traffic
        coalesce(bytes, 0) as bytes
    from {{ ref('int_nvlink__intervals') }}

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

bounds as (

    select
        intervals.trace_no,
        intervals.gpu_index,
        min(intervals.start_ns) as first_start_ns,
        max(intervals.end_ns) as last_end_ns,
        coalesce(any_value(traces.profile_start_ns), min(intervals.start_ns)) as origin_ns,
        greatest(min(intervals.start_ns), coalesce(any_value(traces.profile_start_ns), min(intervals.start_ns)))
        + 1000000000 as split_ns
    from intervals
    inner join traces on intervals.trace_no = traces.trace_no
    group by intervals.trace_no, intervals.gpu_index

),

placed as (

    select
        intervals.*,
        bounds.first_start_ns,
        bounds.last_end_ns,
        bounds.split_ns,
        intervals.start_ns - bounds.origin_ns as offset_ns,
        cast(floor((intervals.start_ns - bounds.origin_ns) / 1e7) as bigint) as whole_buckets
    from intervals
    inner join bounds on intervals.trace_no = bounds.trace_no and intervals.gpu_index = bounds.gpu_index

),

keyed as (

    select
        *,
        -- seconds rounded to two decimals, half to even
        whole_buckets + cast(
            offset_ns - whole_buckets * 10000000 > 5000000
            or (offset_ns - whole_buckets * 10000000 = 5000000 and whole_buckets % 2 <> 0)
            as bigint
        ) as bucket
    from placed

),

buckets as (

    select
        trace_no,
        gpu_index,
        bucket,
        sum(bytes) / 1e7 as gb_s
    from keyed
    group by trace_no, gpu_index, bucket

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

gpu_totals as (

    select
        trace_no,
        gpu_index,
        sum(bytes) as bytes,
        cast(sum(bytes) as double) / nullif(max(last_end_ns) - min(first_start_ns), 0) as avg_gb_s,
        coalesce(sum(bytes) filter (where start_ns >= split_ns - 1000000000 and start_ns < split_ns), 0) / 1e9 as prefill_gb_s,
        cast(coalesce(sum(bytes) filter (where start_ns >= split_ns), 0) as double)
        / nullif(greatest(max(last_end_ns) - max(split_ns), 0), 0) as decode_gb_s
    from keyed
    group by trace_no, gpu_index

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
