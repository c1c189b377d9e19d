"""One process a GPU: start them, join them, measure NCCL between them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.workloads.journal import Journal

MIB = 1 << 20


def launch(module: str, ranks: int, words: list[str]) -> int:
    """Run ``python -m module words`` once a rank; return the first bad exit status."""
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        children = [
            subprocess.Popen(
                [sys.executable, "-m", module, *words],
                env={
                    **os.environ,
                    "RANK": str(r),
                    "WORLD_SIZE": str(ranks),
                    "RANKS_STORE": f"{folder}/store",
                },
            )
            for r in range(ranks)
        ]
        try:
            while any(c.poll() is None for c in children):
                if any(c.poll() for c in children):  # the others would wait for it for ever
                    time.sleep(2)
                    break
                time.sleep(0.05)
        finally:
            for c in children:
                if c.poll() is None:
                    c.kill()
                c.wait()
    return next((c.returncode for c in children if c.returncode), 0)


class Ranks:
    """This rank among the others: device, counted collectives, NVTX ranges."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.on_gpu = torch.cuda.is_available()
        self.device = torch.device(f"cuda:{self.rank}" if self.on_gpu else "cpu")
        if self.on_gpu:
            torch.cuda.set_device(self.device)
        # Multicast (NVLS) is off: its traffic is replicated in the switch, and ranks' bytes no longer add up.
        os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
        torch.manual_seed(self.rank)
        dist.init_process_group(
            "nccl" if self.on_gpu else "gloo",
            init_method=f"file://{os.environ['RANKS_STORE']}",
            rank=self.rank,
            world_size=self.size,
            **({"device_id": self.device} if self.on_gpu else {}),
        )
        self.journal: Journal | None = None

    def note(self, name: str, payload: int) -> None:
        """Note a collective's payload bytes in the journal."""
        if self.journal is not None:
            self.journal.collective(name, payload)

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """Sum ``x`` over the ranks, in place."""
        self.note("all_reduce", x.numel() * x.element_size())
        dist.all_reduce(x)
        return x

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """Return every rank's ``x``, stacked."""
        self.note("all_gather", x.numel() * x.element_size())
        out = x.new_empty((self.size * len(x), *x.shape[1:]))
        dist.all_gather_into_tensor(out, x.contiguous())
        return out.view(self.size, *x.shape)

    def all_to_all(self, x: torch.Tensor, sent: list[int], received: list[int]) -> torch.Tensor:
        """Send ``sent[r]`` rows of ``x`` to rank r, in order; return the rows that came."""
        row = x.shape[1:].numel() * x.element_size()
        self.note("all_to_all", row * sum(n for r, n in enumerate(sent) if r != self.rank))
        out = x.new_empty((sum(received), *x.shape[1:]))
        dist.all_to_all_single(out, x, received, sent)
        return out

    def wait(self) -> None:
        """Wait for this rank's GPU."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.wait()
        dist.all_reduce(torch.zeros(1, device=self.device))
        self.wait()

    @contextlib.contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Put an NVTX range around the block and wait for the GPU before it ends."""
        if self.on_gpu:
            torch.cuda.nvtx.range_push(name)
        try:
            yield
            self.wait()
        finally:
            if self.on_gpu:
                torch.cuda.nvtx.range_pop()

    def reference(self, times: int = 20, size: int = 256 * MIB) -> dict[str, Any]:
        """Return NCCL's own bandwidth of ``times`` all-reduces of ``size`` bytes back to back."""
        x = torch.zeros(size // 2, dtype=torch.bfloat16, device=self.device)
        for _ in range(3):
            dist.all_reduce(x)
        self.barrier()
        start = time.monotonic_ns()
        for _ in range(times):
            dist.all_reduce(x)
        self.wait()
        end = time.monotonic_ns()
        self.barrier()
        return {
            "collective": "all_reduce", "bytes": size, "times": times, "warm_up_times": 3,
            "start_monotonic": start, "end_monotonic": end,
            "gb_s_a_direction": 2 * (self.size - 1) / self.size * size * times / (end - start),
        }  # fmt: skip


def folder() -> Path:
    """Return where the recorder wants files: TRACELAKE_RECORD_DIR, else here."""
    return Path(os.environ.get("TRACELAKE_RECORD_DIR", "."))
