with skips as (

    select * from {{ ref('stg_ingest_skips') }}

),

final as (

    select
        trace_id,
        path,
        table_name,
        code,
        severity,
        action,
        cast(sum(row_count) as bigint) as row_count,
        any_value(remedy) as remedy
    from skips
    group by trace_id, path, table_name, code, severity, action
    order by severity = 'data_loss' desc, severity = 'error' desc, row_count desc, trace_id asc, path asc, code asc

)

select * from final
