with samples as (

    select * from {{ ref('stg_nvlink_samples') }}
    where {{ pending_filter('trace_id') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

-- one number a series: windows over a single key take half the time
reads as (

    select
        ((cast(gpus.trace_no as bigint) * 65536 + samples.gpu_index) * 1024 + coalesce(samples.link_id, -1) + 1) * 2
        + cast(samples.direction = 'tx' as integer) as series,
        samples.sampled_ns,
        samples.host_ns,
        samples.counter_kib
    from samples
    -- one row a polled GPU
    inner join gpus on samples.trace_id = gpus.trace_id and samples.gpu_index = gpus.gpu_index
    -- where a GPU was read both ways its links would count twice
    where samples.link_id is null or not gpus.has_summed_counter

),

-- of reads with equal time the last one stays
kept as (

    select
        series,
        sampled_ns,
        counter_kib
    from reads
    qualify lead(sampled_ns) over (partition by series order by sampled_ns, host_ns) is distinct from sampled_ns

),

intervals as (

    select
        series,
        lag(sampled_ns) over in_order as start_ns,
        sampled_ns as end_ns,
        counter_kib - lag(counter_kib) over in_order as kib
    from kept
    window in_order as (partition by series order by sampled_ns)

),

final as (

    select
        cast(series // 134217728 as integer) as trace_no,
        cast(series // 2048 % 65536 as integer) as gpu_index,
        -- null where the counter sums the links
        cast(nullif(series // 2 % 1024, 0) - 1 as integer) as link_id,
        series % 2 = 1 as is_tx,
        start_ns,
        end_ns,
        -- a falling counter was reset: how much it counted before is unknown
        case when kib >= 0 then kib * 1024 end as bytes
    from intervals
    where start_ns is not null

)

select * from final
