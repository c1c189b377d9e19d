{# Intervals are half-open, [start, end). #}

{# The latest end among the earlier intervals of a group: what `uncovered_ns` needs. `condition` leaves intervals out. #}
{% macro previous_end_ns(end_ns, partition_by, order_by, condition='true') -%}
    max(case when {{ condition }} then {{ end_ns }} end) over (
        partition by {{ partition_by }}
        order by {{ order_by }}
        rows between unbounded preceding and 1 preceding
    )
{%- endmacro %}

{# The part of an interval that no earlier one covers; the sum over a group is the length of its union. #}
{% macro uncovered_ns(start_ns, end_ns, previous_end_ns) -%}
    greatest({{ end_ns }} - greatest({{ start_ns }}, coalesce({{ previous_end_ns }}, {{ start_ns }})), 0)
{%- endmacro %}

{# The union of the intervals of `relation` (columns start_ns, end_ns and the keys) as disjoint intervals. #}
{% macro interval_union(relation, keys) -%}
    select
        {{ keys | join(', ') }},
        min(start_ns) as start_ns,
        max(end_ns) as end_ns
    from (
        select
            *,
            sum(is_new) over (
                partition by {{ keys | join(', ') }} order by start_ns, end_ns rows unbounded preceding
            ) as island
        from (
            select
                {{ keys | join(', ') }},
                start_ns,
                end_ns,
                cast(start_ns > coalesce({{ previous_end_ns('end_ns', keys | join(', '), 'start_ns, end_ns') }}, start_ns - 1) as integer) as is_new
            from {{ relation }}
            where end_ns > start_ns
        ) as marked
    ) as numbered
    group by {{ keys | join(', ') }}, island
{%- endmacro %}

{# Bytes that an interval has moved until at_ns, spread evenly. It never falls, is 0 at the start and `bytes` at
   the end, so differences of it add up to `bytes` exactly, rounded as they are (below 2^53 bytes an interval). #}
{% macro bytes_until(bytes, start_ns, end_ns, at_ns) -%}
    cast({{ bytes }} * (({{ at_ns }} - {{ start_ns }}) / ({{ end_ns }} - {{ start_ns }})) as bigint)
{%- endmacro %}

{# Bytes of [start_ns, end_ns) that fall into [from_ns, to_ns). #}
{% macro bytes_between(bytes, start_ns, end_ns, from_ns, to_ns) -%}
    (
        {{ bytes_until(bytes, start_ns, end_ns, to_ns) }}
        - {{ bytes_until(bytes, start_ns, end_ns, from_ns) }}
    )
{%- endmacro %}

{# The width of the bandwidth grid in nanoseconds. #}
{% macro bucket_ns() -%}
    {{ (var('bucket_ms') | float * 1000000) | round | int }}
{%- endmacro %}
