with series as (

    select * from {{ ref('int_nvlink__series') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

compared as (

    select
        *,
        sum(bytes) filter (where is_tx) over one_link as tx_bytes,
        sum(bytes) filter (where not is_tx) over one_link as rx_bytes,
        count(link_id) over all_links as links,
        count(link_id) filter (where bytes = 0) over all_links as idle_links,
        max(bytes) over all_links as max_bytes,
        avg(bytes) over all_links as mean_bytes
    from series
    window
        one_link as (partition by trace_no, gpu_index, link_id),
        all_links as (partition by trace_no, gpu_index, is_tx)

),

final as (

    select
        windows.trace_id,
        compared.gpu_index,
        compared.link_id,
        case when compared.is_tx then 'tx' else 'rx' end as direction,
        cast(compared.bytes as bigint) as bytes,
        compared.bytes / cast(windows.window_end_ns - windows.window_start_ns as double) as mean_gb_s,
        compared.peaks[1].gb_s as peak_gb_s,
        compared.resets,
        compared.bytes = 0 as is_idle,
        case when compared.link_id is not null then cast(compared.links as integer) end as links,
        case when compared.link_id is not null then cast(compared.idle_links as integer) end as idle_links,
        case when compared.link_id is not null then compared.max_bytes / nullif(compared.mean_bytes, 0) end as imbalance,
        (compared.tx_bytes - compared.rx_bytes)
        / nullif(cast(compared.tx_bytes + compared.rx_bytes as double), 0) as tx_rx_asymmetry
    from compared
    inner join windows on compared.trace_no = windows.trace_no

)

select * from final
