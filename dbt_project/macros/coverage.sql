{# How much of each class of spans lies before given instants: the length of their union until then, so that the
   difference of two instants is the covered time between them. One sort of spans and instants together does
   what a range join would, whatever the number of windows.

   spans: relation with the keys, start_ns, end_ns and a boolean column a class. instants: relation with the
   keys and at_ns, no row twice. Gives one row an instant with <class>_ns, all integers.

   Of the spans that began by then, M is the latest end and C the length of their union; what lies behind the
   instant, [at_ns, M), is covered wholly by the span that ends at M, so C - (M - at_ns) is left. #}
{% macro covered_until(spans, instants, keys, classes) -%}
    {%- set keys = keys | join(', ') -%}
    select
        {{ keys }},
        start_ns as at_ns
        {%- for class in classes %},
        cast({{ class }}_union - greatest(coalesce({{ class }}_before, start_ns) - start_ns, 0) as bigint) as {{ class }}_ns
        {%- endfor %}
    from (
        select
            {{ keys }},
            start_ns,
            is_instant
            {%- for class in classes %},
            {{ class }}_before,
            sum(
                case when {{ class }} then {{ uncovered_ns('start_ns', 'end_ns', class ~ '_before') }} else 0 end
            ) over (
                partition by {{ keys }} order by start_ns, is_instant rows unbounded preceding
            ) as {{ class }}_union
            {%- endfor %}
        from (
            select
                *
                {%- for class in classes %},
                {{ previous_end_ns('case when ' ~ class ~ ' then end_ns end', keys, 'start_ns, is_instant') }} as {{ class }}_before
                {%- endfor %}
            from (
                select
                    {{ keys }},
                    start_ns,
                    end_ns,
                    {{ classes | join(', ') }},
                    false as is_instant
                from {{ spans }}
                union all by name
                select
                    {{ keys }},
                    at_ns as start_ns,
                    at_ns as end_ns,
                    {%- for class in classes %}
                    false as {{ class }},
                    {%- endfor %}
                    true as is_instant
                from {{ instants }}
            ) as events
        ) as marked
    ) as summed
    where is_instant
{%- endmacro %}
