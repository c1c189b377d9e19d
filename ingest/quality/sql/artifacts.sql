select
    'ignored_files' as fact,
    null as subject,
    count(*) filter (where format = 'ignored') as value,
    null as text
from artifacts
union all
select
    'rows_skipped_pct' as fact,
    null as subject,
    coalesce(100 * sum(rows_skipped) / nullif(sum(rows_seen), 0), 0) as value,
    null as text
from artifacts
