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
