with agreement as (

    select * from {{ ref('nvlink_source_agreement') }}

),

final as (

    select
        trace_id,
        gpu_index,
        direction,
        has_protocol,
        buckets,
        nvml_bytes / 1e9 as nvml_gb,
        nsys_bytes / 1e9 as nsys_gb,
        ratio,
        correlation,
        reason
    from agreement
    order by abs(ratio - 1) desc nulls last, trace_id asc, gpu_index asc, direction asc, has_protocol asc

)

select * from final
