{# Reads of cumulative counters, paired to intervals. #}

{# One number a series (trace, GPU, link, direction): windows over a single key take half the time. #}
{% macro series_number(samples='samples', gpus='gpus') -%}
    ((cast({{ gpus }}.trace_no as bigint) * 65536 + {{ samples }}.gpu_index) * 1024 + coalesce({{ samples }}.link_id, -1) + 1) * 2
    + cast({{ samples }}.direction = 'tx' as integer)
{%- endmacro %}

{# CTEs that end in `intervals`: one row a pair of consecutive reads of a series (trace_no, gpu_index, link_id,
   is_tx, start_ns, end_ns, bytes). `reads` has series, sampled_ns, host_ns, counter_kib; pairs are made within `keys`,
   of which `series` is one. #}
{% macro consecutive_reads(reads, keys) -%}
{%- set partition_by = keys | join(', ') -%}
-- of reads with equal time the last one stays
kept as (

    select
        {{ partition_by }},
        sampled_ns,
        counter_kib
    from {{ reads }}
    qualify
        lead(sampled_ns) over (partition by {{ partition_by }} order by sampled_ns, host_ns) is distinct from sampled_ns

),

pairs as (

    select
        series,
        lag(sampled_ns) over in_order as start_ns,
        sampled_ns as end_ns,
        counter_kib - lag(counter_kib) over in_order as kib
    from kept
    window in_order as (partition by {{ partition_by }} order by sampled_ns)

),

intervals as (

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
    from pairs
    where start_ns is not null

)
{%- endmacro %}
