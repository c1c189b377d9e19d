with links as (

    select * from {{ ref('link_balance') }}
    where link_id is not null

),

final as (

    select
        trace_id,
        gpu_index,
        direction,
        any_value(links) as links,
        any_value(idle_links) as idle_links,
        any_value(imbalance) as imbalance,
        arg_max(link_id, bytes) as busiest_link,
        arg_min(link_id, bytes) as quietest_link,
        max(bytes) / 1e9 as busiest_gb,
        sum(bytes) / 1e9 as nvlink_gb,
        max(abs(tx_rx_asymmetry)) as worst_tx_rx_asymmetry
    from links
    group by trace_id, gpu_index, direction
    order by imbalance desc nulls last, trace_id asc, gpu_index asc, direction asc

)

select * from final
