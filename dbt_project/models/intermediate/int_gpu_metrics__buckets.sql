with samples as (

    select * from {{ ref('stg_gpu_metrics') }}
    where {{ pending_filter('trace_id') }} and gpu_index is not null

),

names as (

    select * from {{ ref('int_gpu_metrics__names') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

metrics as (

    select
        windows.trace_no,
        samples.gpu_index,
        samples.metric,
        (samples.sampled_ns - windows.window_start_ns) // {{ bucket_ns() }} as bucket,
        avg(samples.metric_value) as metric_value,
        count(*) as samples
    from samples
    inner join windows on samples.trace_id = windows.trace_id
    semi join names on samples.metric = names.metric
    where samples.sampled_ns >= windows.window_start_ns and samples.sampled_ns < windows.window_end_ns
    group by all

),

families as (

    select
        metrics.trace_no,
        metrics.gpu_index,
        names.family,
        names.unit,
        metrics.bucket,
        sum(metrics.metric_value) as metric_value,
        cast(sum(metrics.samples) as bigint) as samples
    from metrics
    -- one row a metric
    inner join names on metrics.metric = names.metric
    group by all

),

final as (

    select
        families.trace_no,
        windows.trace_id,
        families.gpu_index,
        families.family,
        families.unit,
        families.bucket,
        windows.window_start_ns + families.bucket * {{ bucket_ns() }} as start_ns,
        least(windows.window_start_ns + (families.bucket + 1) * {{ bucket_ns() }}, windows.window_end_ns) as end_ns,
        families.metric_value,
        families.samples
    from families
    inner join windows on families.trace_no = windows.trace_no

)

select * from final
