select
    'gpus_with_kernels' as fact,
    null as subject,
    count(*) as value,
    null as text
from kernel_devices
