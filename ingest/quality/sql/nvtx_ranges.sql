select
    'unclosed_ranges' as fact,
    null as subject,
    count(*) filter (where end_ns is null) as value,
    null as text
from nvtx_ranges
