with totals as (

    select
        count(*) filter (where end_ns is null)::double as unclosed_ranges,
        100.0 * count(*) filter (where end_ns is null) / nullif(count(*), 0) as unclosed_ranges_pct
    from nvtx_ranges

)

select
    fact,
    null as subject,
    value,
    null as text
from totals unpivot include nulls (value for fact in (columns(*)))
