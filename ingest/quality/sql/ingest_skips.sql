select
    case action when 'skipped' then 'skipped_rows' else 'kept_rows' end as fact,
    table_name || ' ' || code as subject,
    sum(row_count) as value,
    -- the worst of several files
    case
        when bool_or(severity = 'data_loss') then 'data_loss'
        when bool_or(severity = 'error') then 'error'
        else 'info'
    end as text
from ingest_skips
group by action, table_name, code
