select
    'gpus_without_uuid' as fact,
    null as subject,
    count(*) - count(uuid) as value,
    null as text
from gpus
union all
select
    'uuids_shared' as fact,
    null as subject,
    count(uuid) - count(distinct uuid) as value,
    null as text
from gpus
