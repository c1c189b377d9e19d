with traces as (

    select * from {{ ref('int_trace__pending') }}

),

requests as (

    select distinct trace_id from {{ ref('stg_requests') }}
    where {{ pending_filter('trace_id') }} and start_clock = 'monotonic'

),

samples as (

    select * from {{ ref('stg_nvlink_samples') }}
    where {{ pending_filter('trace_id') }}

),

markers as (

    select * from {{ ref('stg_clock_markers') }}
    where {{ pending_filter('trace_id') }} and monotonic_ns is not null

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

-- only where requests need it: a median over all reads is not free
sampled as (

    select
        samples.trace_id,
        cast(quantile_disc(samples.sampled_ns - samples.host_ns, 0.5) as bigint) as offset_ns
    from samples
    semi join requests on samples.trace_id = requests.trace_id
    -- one row a polled GPU
    inner join gpus on samples.trace_id = gpus.trace_id and samples.gpu_index = gpus.gpu_index
    -- the host's time is taken after the last link of a poll: the first of 18 was read 16 ms before
    where samples.link_id is null or (samples.link_id = gpus.last_link_id and not gpus.has_summed_counter)
    group by samples.trace_id

),

marked as (

    select
        trace_id,
        cast(quantile_disc(wall_ns - monotonic_ns, 0.5) as bigint) as offset_ns
    from markers
    group by trace_id

),

final as (

    select
        traces.trace_no,
        traces.trace_id,
        coalesce(sampled.offset_ns, marked.offset_ns) as offset_ns,
        case
            when sampled.offset_ns is not null then 'nvlink_samples'
            when marked.offset_ns is not null then 'markers'
        end as offset_source,
        case
            when coalesce(sampled.offset_ns, marked.offset_ns) is null
                then 'neither counter reads nor markers relate the monotonic clock to wall time'
        end as offset_reason
    from traces
    left join sampled on traces.trace_id = sampled.trace_id
    left join marked on traces.trace_id = marked.trace_id

)

select * from final
