{# The grain: no two rows agree in all of these columns. #}
{% test unique_together(model, columns) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}

{# Rows for which the condition does not hold. #}
{% test always_true(model, condition) %}
    select *
    from {{ model }}
    where not coalesce({{ condition }}, false)
{% endtest %}

{# Shares: every one of these columns is null or from 0 to 100 (and what floating point adds). #}
{% test in_percent(model, columns) %}
    select *
    from {{ model }}
    where
        {% for column in columns -%}
            {{ 'or ' if not loop.first }}{{ column }} not between 0 and 100.000001
        {% endfor %}
{% endtest %}

{# What an intersection's sum asks of each side: proper intervals of which no two share time. #}
{% test intervals_disjoint(model, keys) %}
    select * from (
        select
            *,
            {{ previous_end_ns('end_ns', keys | join(', '), 'start_ns') }} as before_ns
        from {{ model }}
    ) as marked
    where coalesce(start_ns < before_ns or end_ns <= start_ns, false) or end_ns is null
{% endtest %}

{# Intervals that follow one another without a gap or an overlap: their lengths add up to the time they span. #}
{% test intervals_fill(model, keys) %}
    select {{ keys | join(', ') }}
    from {{ model }}
    group by {{ keys | join(', ') }}
    having sum(end_ns - start_ns) <> max(end_ns) - min(start_ns) or min(end_ns - start_ns) <= 0
{% endtest %}
