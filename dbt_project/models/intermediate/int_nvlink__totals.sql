with traces as (

    select * from {{ ref('int_trace__pending') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

polled as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

buckets as (

    select * from {{ ref('int_nvlink__buckets') }}

),

seen as (

    select * from {{ ref('stg_gpus') }}
    where {{ pending_filter('trace_id') }}

),

specs as (

    select * from {{ ref('gpu_link_specs') }}

),

resets as (

    select
        trace_no,
        sum(reset_intervals) as counter_resets
    from {{ ref('int_nvlink__cells') }}
    group by trace_no

),

gpu_facts as (

    select
        polled.trace_no,
        polled.gpu_index,
        coalesce(sum(buckets.bytes), 0) as bytes,
        coalesce(sum(buckets.tx_bytes), 0) as tx_bytes,
        max(buckets.gb_s) as peak_gb_s,
        count(buckets.bucket) as covered_buckets,
        coalesce(
            sum(buckets.end_ns - buckets.start_ns)
            filter (where buckets.gb_s > {{ var('burst_threshold_gb_s') }}),
            0
        ) as burst_ns
    from polled
    left join buckets on polled.trace_no = buckets.trace_no and polled.gpu_index = buckets.gpu_index
    group by polled.trace_no, polled.gpu_index

),

measured as (

    select
        trace_no,
        count(*) as polled_gpus,
        sum(bytes) as bytes,
        sum(tx_bytes) as tx_bytes,
        max(peak_gb_s) as peak_gb_s,
        avg(burst_ns) as burst_ns,
        sum(covered_buckets) > 0 as has_coverage
    from gpu_facts
    group by trace_no

),

hardware as (

    select
        traces.trace_no,
        count(seen.gpu_index) as seen_gpus,
        bool_and(seen.nvlink_count is not distinct from 0) as has_no_link,
        coalesce(min(seen.name) filter (where seen.name is not null), traces.gpu_model) as gpu_name,
        count(distinct seen.name) > 1 as has_several_models,
        traces.gpu_count
    from traces
    left join seen on traces.trace_id = seen.trace_id
    group by traces.trace_no, traces.gpu_model, traces.gpu_count

),

-- the first pattern that matches is the GPU's
models as (

    select
        hardware.trace_no,
        arg_min(specs.gpu_model, specs.priority) as gpu_model,
        arg_min(specs.peak_gb_s, specs.priority) as link_peak_gb_s
    from hardware
    inner join specs on regexp_matches(lower(hardware.gpu_name), specs.name_pattern)
    where not hardware.has_several_models
    group by hardware.trace_no

),

judged as (

    select
        windows.trace_no,
        windows.window_source,
        windows.window_end_ns - windows.window_start_ns as window_ns,
        measured.polled_gpus,
        measured.bytes,
        measured.tx_bytes,
        measured.peak_gb_s,
        measured.burst_ns,
        coalesce(measured.has_coverage, false) as is_measured,
        -- a single GPU without a link cannot have used one
        hardware.seen_gpus = 1
        and hardware.has_no_link
        and coalesce(hardware.gpu_count, 1) = 1
        and measured.polled_gpus is null as is_known_zero,
        hardware.has_no_link and measured.polled_gpus is null and hardware.seen_gpus > 0 as has_no_link,
        hardware.seen_gpus,
        coalesce(models.gpu_model, hardware.gpu_name) as gpu_model,
        models.link_peak_gb_s,
        coalesce(resets.counter_resets, 0) as counter_resets
    from windows
    inner join hardware on windows.trace_no = hardware.trace_no
    left join measured on windows.trace_no = measured.trace_no
    left join models on windows.trace_no = models.trace_no
    left join resets on windows.trace_no = resets.trace_no

),

rated as (

    select
        *,
        case
            when is_measured then cast(bytes as double) / window_ns / polled_gpus
            when is_known_zero then 0
        end as avg_gb_s
    from judged

),

final as (

    select
        trace_no,
        cast(case when is_known_zero then seen_gpus else coalesce(polled_gpus, 0) end as integer) as polled_gpus,
        gpu_model,
        cast(counter_resets as bigint) as counter_resets,
        is_measured or is_known_zero as is_known,
        case when is_measured then bytes / 1e9 when is_known_zero then 0 end as total_nvlink_gb,
        case when is_measured then tx_bytes / 1e9 when is_known_zero then 0 end as tx_nvlink_gb,
        case when is_measured then peak_gb_s when is_known_zero then 0 end as peak_nvlink_gb_s,
        avg_gb_s as avg_nvlink_gb_s,
        case when is_measured then peak_gb_s end / nullif(avg_gb_s, 0) as burst_intensity,
        case when is_measured then burst_ns / 1e9 when is_known_zero then 0 end as burst_duration_s,
        case when avg_gb_s = 0 then 0 else 100 * avg_gb_s / link_peak_gb_s end as bw_usage_pct,
        case
            when is_measured or is_known_zero then null
            when polled_gpus > 0 then 'no two good NVLink reads of a series overlap the profile window'
            when has_no_link then 'no polled GPU has an NVLink, but the trace has several GPUs'
            else 'the trace has no NVLink counter reads'
        end as nvlink_reason
    from rated

)

select * from final
