"""What NCCL itself measures, and what the NVLink counters say of it, size by size.

Each collective runs alone and back to back, so that its time and its bytes on the wire are known without a
workload around it. ``bytes_sent`` and ``bytes_received`` are NVML's payload counters of each GPU, summed over
its links, per call. Start it with NCCL_DEBUG=INFO and NCCL_DEBUG_SUBSYS=TUNING to read algorithm and protocol.

Example: python -m benchmarks.workloads.nccl_reference --out nccl_reference.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.workloads.ranks import MIB, Ranks, launch
from benchmarks.workloads.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

_SETTLE_S = 0.05  # the counters run behind by less than this


def main(words: list[str]) -> int:
    """Start the ranks, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("nccl_reference.json"))
    options = parser.parse_args(words)
    if "RANK" not in os.environ:
        return launch("benchmarks.workloads.nccl_reference", options.ranks, words)
    _rank(options)
    return 0


def _calls(ranks: Ranks) -> list[tuple[str, int, int]]:
    """Return (collective, payload bytes, calls) to measure: the sizes of the workloads, and large ones."""
    dense = SHAPES["qwen3-32b"]
    token = dense.hidden * 2
    found = [
        ("all_reduce", size, 3000 if size < MIB else 40)
        for size in (token, 4 * token, 1024 * token, 4096 * token, 25 * MIB, 128 * MIB, 256 * MIB, 1024 * MIB)
    ]
    found += [("all_gather", batch * dense.vocab // ranks.size * 2, 500) for batch in (1, 4)]
    found += [("all_to_all", size, 3000 if size < MIB else 40) for size in (512, 65536, 64 * MIB)]
    return found


def _rank(options: argparse.Namespace) -> None:
    ranks = Ranks()
    counters = _Counters() if ranks.rank == 0 and ranks.on_gpu else None
    rows = []
    for name, size, calls in _calls(ranks):
        call = _call(ranks, name, size)
        for _ in range(5):
            call()
        ranks.barrier()
        time.sleep(_SETTLE_S)
        before = counters.read() if counters else []
        seconds = [_timed(ranks, call, calls // 5) for _ in range(5)]
        ranks.barrier()
        time.sleep(_SETTLE_S)
        after = counters.read() if counters else []
        made = calls // 5 * 5
        rows.append(
            {
                "collective": name, "payload": size, "calls": made,
                "us": statistics.median(seconds) * 1e6,
                "payload_gb_s": size / statistics.median(seconds) / 1e9,
                "bytes_sent": [(a[0] - b[0]) * 1024 / made for a, b in zip(after, before, strict=True)],
                "bytes_received": [(a[1] - b[1]) * 1024 / made for a, b in zip(after, before, strict=True)],
            }
        )  # fmt: skip
    if counters:
        before = counters.read()
        time.sleep(1)
        idle = [(a[0] - b[0], a[1] - b[1]) for a, b in zip(counters.read(), before, strict=True)]
        content = {"nccl": torch.cuda.nccl.version(), "idle_kib_a_second": idle, "rows": rows}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    ranks.barrier()
    torch.distributed.destroy_process_group()


def _call(ranks: Ranks, name: str, size: int) -> Callable[[], Any]:
    x = torch.zeros(size // 2 if name != "all_to_all" else size, dtype=torch.bfloat16, device=ranks.device)
    if name == "all_reduce":
        return lambda: torch.distributed.all_reduce(x)
    if name == "all_gather":
        out = x.new_empty(len(x) * ranks.size)
        return lambda: torch.distributed.all_gather_into_tensor(out, x)
    out = torch.empty_like(x)  # of two halves, one stays and `size` bytes leave
    return lambda: torch.distributed.all_to_all_single(out, x)


def _timed(ranks: Ranks, call: Callable[[], Any], times: int) -> float:
    """Return the seconds of one call, of ``times`` back to back."""
    if not ranks.on_gpu:
        begun = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - begun) / times
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    ranks.wait()
    start.record()
    for _ in range(times):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / times


class _Counters:
    """Summed NVLink payload counters of all GPUs, in KiB."""

    def __init__(self) -> None:
        from ingest.record.nvml import SUMMED, FieldReader, find_gpus

        import pynvml  # isort: skip

        pynvml.nvmlInit()
        self._readers = [FieldReader(pynvml, g.handle, (SUMMED,)) for g in find_gpus(pynvml, None)]

    def read(self) -> list[tuple[int, int]]:
        """Return (sent, received) of each GPU."""
        found = []
        for reader in self._readers:
            if reader.read() or any(v.nvmlReturn for v in reader.values):
                raise SystemExit("the NVLink counters cannot be read")
            found.append((int(reader.values[0].value.ullVal), int(reader.values[1].value.ullVal)))
        return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
