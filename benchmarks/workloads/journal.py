"""What a workload writes down of itself: step windows, payload bytes of collectives, requests. No PyTorch.

The journal of rank r is ``workload_rank<r>.json``. Times are ns; ``monotonic`` is CLOCK_MONOTONIC, ``wall``
the time since the Unix epoch. A collective is [name, payload bytes, times in a row]; the payload is the
buffer of one rank for all-reduce and all-gather, and what leaves the rank for all-to-all.
"""

from __future__ import annotations

import itertools
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Journal:
    """The journal of one rank."""

    def __init__(self, rank: int, ranks: int, **facts: Any) -> None:
        self.rank = rank
        self.content: dict[str, Any] = {
            "rank": rank, "ranks": ranks, **facts,
            "clock_pairs": [_clocks()], "steps": [], "requests": [], "reference": [], "window": {},
        }  # fmt: skip
        self._open: list[list[Any]] | None = None

    def collective(self, name: str, payload: int) -> None:
        """Note a collective of ``payload`` bytes in the open step; outside of one it is not counted."""
        if self._open is None:
            return
        if self._open and self._open[-1][:2] == [name, payload]:
            self._open[-1][2] += 1
        else:
            self._open.append([name, payload, 1])

    @contextmanager
    def step(self, phase: str, **facts: Any) -> Iterator[dict[str, Any]]:
        """Note the window of one step. The caller waits for the GPU before it leaves."""
        row: dict[str, Any] = {"phase": phase, **facts}
        self._open = row["collectives"] = []
        wall, start = time.time_ns(), time.monotonic_ns()
        try:
            yield row
        finally:
            end = time.monotonic_ns()
            row |= {
                "start_monotonic": start,
                "end_monotonic": end,
                "start_wall": wall,
                "end_wall": wall + end - start,
            }
            self.content["steps"].append(row)
            self._open = None

    def write(self, folder: Path) -> Path:
        """Write the journal."""
        self.content["clock_pairs"].append(_clocks())
        path = folder / f"workload_rank{self.rank}.json"
        path.write_text(json.dumps(self.content) + "\n", encoding="utf-8")
        return path


def _clocks() -> list[int]:
    """Return [wall, monotonic, width] of the narrowest of a few bracketed reads."""
    found = []
    for _ in range(20):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        found.append((after - before, wall, (before + after) // 2))
    width, wall, monotonic = min(found)
    return [wall, monotonic, width]


def request(start: float, token_times: list[float], input_len: int) -> dict[str, Any]:
    """Return a request's row: times are perf_counter seconds, one a token after ``start``."""
    return {
        "start_time": start,
        "ttft": token_times[0] - start,
        "itls": [b - a for a, b in itertools.pairwise(token_times)],
        "input_len": input_len,
        "output_len": len(token_times),
    }


def benchmark_result(
    requests: list[dict[str, Any]], *, model: str, backend: str, duration: float, concurrency: int
) -> dict[str, Any]:
    """Return a result in the keys of ``vllm bench serve --save-result --save-detailed``."""
    out = sum(r["output_len"] for r in requests)
    into = sum(r["input_len"] for r in requests)
    ttft = [r["ttft"] for r in requests]
    whole = [r["ttft"] + sum(r["itls"]) for r in requests]
    series = {
        "ttft": ttft,
        "tpot": [
            (w - r["ttft"]) / (r["output_len"] - 1)
            for w, r in zip(whole, requests, strict=True)
            if r["output_len"] > 1
        ],
        "itl": [gap for r in requests for gap in r["itls"]],
        "e2el": whole,
    }
    result: dict[str, Any] = {
        "date": time.strftime("%Y%m%d-%H%M%S", time.gmtime()),
        "backend": backend,
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": len(requests),
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": concurrency,
        "duration": duration,
        "completed": len(requests),
        "failed": 0,
        "total_input_tokens": into,
        "total_output_tokens": out,
        "request_throughput": len(requests) / duration,
        "output_throughput": out / duration,
        "total_token_throughput": (into + out) / duration,
    }
    for name, values in series.items():
        ms = np.array(values or [0.0]) * 1e3
        result |= {
            f"mean_{name}_ms": float(ms.mean()),
            f"median_{name}_ms": float(np.median(ms)),
            f"std_{name}_ms": float(ms.std()),
            f"p99_{name}_ms": float(np.percentile(ms, 99)),
        }
    return result | {
        "input_lens": [r["input_len"] for r in requests],
        "output_lens": [r["output_len"] for r in requests],
        "ttfts": ttft,
        "itls": [r["itls"] for r in requests],
        "start_times": [r["start_time"] for r in requests],
        "errors": ["" for _ in requests],
    }
