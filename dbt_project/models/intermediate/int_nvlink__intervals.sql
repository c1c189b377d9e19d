with samples as (

    select * from {{ ref('stg_nvlink_samples') }}
    where {{ pending_filter('trace_id') }}

),

gpus as (

    select * from {{ ref('int_nvlink__polled_gpus') }}

),

reads as (

    select
        gpus.trace_no,
        samples.gpu_index,
        coalesce(samples.link_id, -1) as link_id,
        samples.direction = 'tx' as is_tx,
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

    select * from reads
    qualify
        lead(sampled_ns) over (
            partition by trace_no, gpu_index, link_id, is_tx order by sampled_ns, host_ns
        ) is distinct from sampled_ns

),

intervals as (

    select
        trace_no,
        gpu_index,
        link_id,
        is_tx,
        lag(sampled_ns) over series as start_ns,
        sampled_ns as end_ns,
        counter_kib - lag(counter_kib) over series as kib
    from kept
    window series as (partition by trace_no, gpu_index, link_id, is_tx order by sampled_ns)

),

final as (

    select
        trace_no,
        gpu_index,
        link_id,
        is_tx,
        start_ns,
        end_ns,
        -- a falling counter was reset: how much it counted before is unknown
        case when kib >= 0 then kib * 1024 end as bytes
    from intervals
    where start_ns is not null

)

select * from final
