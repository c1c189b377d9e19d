"""A stand-in for libnvidia-ml.so.1 behind pynvml: real struct layout, made-up GPUs that misbehave on purpose.

Every read adds 8 KiB to each counter. Faults: fail_every (each n-th read fails field 0), reset_at (read after
which counters restart), stall (read number: seconds), link_s (time of one link's read), call_code (the whole
call fails).
As a script: `stub_nvml.py record …` runs tracelake with the stub in place.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import pynvml


class StubNvml:
    """Two GPUs with ``links`` links each."""

    def __init__(
        self,
        links: int = 3,
        fail_every: int = 0,
        reset_at: int = 0,
        stall: dict[int, float] | None = None,
        link_s: float = 0.0,
        call_code: int = 0,
    ) -> None:
        self.links, self.fail_every, self.reset_at = links, fail_every, reset_at
        self.stall, self.link_s, self.call_code = stall or {}, link_s, call_code
        self.reads = 0

    def nvmlInitWithFlags(self, flags: int) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        return 0

    def nvmlDeviceGetName(self, handle: Any, buffer: Any, size: Any) -> int:
        buffer.value = b"NVIDIA H100 80GB HBM3"
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, buffer: Any, size: Any) -> int:
        buffer.value = b"GPU-5e7e71c0-0000-4000-8000-000000000000"
        return 0

    def nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> int:
        buffer.value = b"580.0"
        return 0

    def nvmlDeviceGetNvLinkVersion(self, device: Any, link: int, version: Any) -> int:
        version._obj.value = 7
        return 0

    def nvmlDeviceGetFieldValues(self, handle: Any, count: int, values: Any) -> int:
        if count == 2 * pynvml.NVML_NVLINK_MAX_LINKS:  # the probe for links
            for v in values:
                v.nvmlReturn = 0 if v.scopeId < self.links else 3
            return 0
        if self.call_code:
            return self.call_code
        self.reads += 1
        time.sleep(self.stall.get(self.reads, 0.0) + self.link_s * (count // 2 if count > 2 else 0))
        base = (
            self.reads - self.reset_at if self.reset_at and self.reads > self.reset_at else self.reads + 10**6
        )
        now = time.time_ns() // 1000
        for i, v in enumerate(values):
            failed = self.fail_every and i == 0 and self.reads % self.fail_every == 0
            v.timestamp, v.latencyUsec, v.valueType = now, 1, 3
            v.nvmlReturn = 999 if failed else (0 if self.links else 3)
            v.value.ullVal = 0 if failed else base * 8
        return 0


def install(stub: StubNvml) -> None:
    """Put the stub where pynvml keeps the library."""
    pynvml.nvmlLib = stub
    pynvml._nvmlGetFunctionPointer_cache.clear()


if __name__ == "__main__":
    install(StubNvml())
    from ingest.cli.record import record

    record.main(sys.argv[2:])
