{# Macros that the analyses may use; `tracelake ask` renders them without dbt, so they call nothing of dbt's. #}

{# Columns that two traces must agree in before they are set against each other, but for the one in question. #}
{% macro workload_settings(metrics, cards) -%}
    {{ metrics }}.model_family,
    {{ cards }}.precision,
    {{ metrics }}.gpu_model,
    {{ cards }}.dataset,
    {{ cards }}.input_len,
    {{ cards }}.output_len
{%- endmacro %}

{# NVLink payload, TX + RX over all GPUs, for each token read or written; null unless every GPU was polled. #}
{% macro nvlink_bytes_per_token(metrics) -%}
    case
        when {{ metrics }}.polled_gpus >= {{ metrics }}.tp
            then
                1e9 * {{ metrics }}.total_nvlink_gb
                / nullif({{ metrics }}.total_input_tokens + {{ metrics }}.total_output_tokens, 0)
    end
{%- endmacro %}

{# A JSON array of texts, from a parameter, as rows of `column` numbered from 1 in `position`. #}
{% macro listed(json_text, column) -%}
    select
        unnest(texts) as {{ column }},
        unnest(range(1, len(texts) + 1)) as position
    from (select from_json('{{ json_text }}', '["VARCHAR"]') as texts)
{%- endmacro %}
