with samples as (

    select * from {{ ref('stg_nvlink_samples') }}
    where {{ pending_filter('trace_id') }}

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

polled as (

    select
        trace_id,
        gpu_index,
        bool_or(link_id is null) as has_summed_counter,
        max(link_id) as last_link_id,
        min(sampled_ns) as first_sample_ns,
        max(sampled_ns) as last_sample_ns,
        count(*) as sample_count
    from samples
    group by trace_id, gpu_index

),

final as (

    select
        traces.trace_no,
        polled.*
    from polled
    inner join traces on polled.trace_id = traces.trace_id

)

select * from final
