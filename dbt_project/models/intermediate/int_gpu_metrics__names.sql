with names as (

    select distinct metric from {{ ref('stg_gpu_metrics') }}
    where {{ pending_filter('trace_id') }}

),

patterns as (

    select * from {{ ref('gpu_metric_names') }}

),

-- newer versions end a name with its unit in brackets
split as (

    select
        metric,
        trim(regexp_replace(metric, '\s*\[[^\]]*\]$', '')) as base_name,
        nullif(regexp_extract(metric, '\[([^\]]*)\]$', 1), '') as bracket
    from names

),

final as (

    select
        split.metric,
        arg_min(patterns.family, patterns.priority) as family,
        case
            when split.bracket is null then arg_min(patterns.bare_unit, patterns.priority)
            when split.bracket in ('Throughput %', '%') then '%'
            when split.bracket in ('bytes/s', 'B/s') then 'bytes/s'
            -- the values under this heading are hertz
            when split.bracket = 'MHz' then 'Hz'
        end as unit
    from split
    inner join patterns on regexp_matches(split.base_name, patterns.pattern)
    group by split.metric, split.bracket

)

select * from final
