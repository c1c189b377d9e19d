"""Requests of a benchmark client, and what they add up to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.simulate.scenario import MONOTONIC_AT_EPOCH_NS, NS

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.simulate.scenario import Plan


@dataclass(frozen=True, slots=True)
class Request:
    """One request: start in ns since the plan's epoch, latencies in s; a failed one has no token."""

    start_ns: int
    input_tokens: int
    ttft_s: float
    itls_s: tuple[float, ...]
    succeeded: bool

    @property
    def e2e_s(self) -> float:
        """Whole latency."""
        return self.ttft_s + sum(self.itls_s)

    @property
    def output_tokens(self) -> int:
        """Tokens generated: the first and one after each inter-token latency."""
        return len(self.itls_s) + 1 if self.succeeded else 0


def make_requests(plan: Plan) -> list[Request]:
    """Return batches of requests: each starts with its batch's prefill phase and ends within its cycle."""
    s = plan.scenario
    rng = np.random.default_rng((s.seed, 3))
    failed = (
        set(rng.choice(s.requests, s.failed_requests, replace=False).tolist()) if s.failed_requests else set()
    )
    requests = []
    for index in range(s.requests):
        prefill, decode, idle, _ = (int(t) for t in plan.cycles[index // s.batch_size])
        start = prefill + int(rng.integers(0, max((decode - prefill) // 10, 1)))
        tokens = int(rng.integers(8, 65))
        ttft = (decode - start) / NS * float(rng.uniform(0.8, 1.0))
        # The last token comes before the phase's end.
        span = (idle - start) / NS * float(rng.uniform(0.85, 0.98)) - ttft
        shares = rng.uniform(0.7, 1.3, tokens - 1)
        itls = shares / shares.sum() * span
        good = index not in failed
        requests.append(
            Request(
                start,
                int(rng.integers(64, 2049)),
                ttft if good else 0.0,
                tuple(itls.tolist()) if good else (),
                good,
            )
        )
    return requests


def summarise(requests: list[Request]) -> dict[str, Any]:
    """Return the client's own figures, in the order of a vLLM result; latencies in ms, of successes only."""
    good = [r for r in requests if r.succeeded]
    duration = (max(r.start_ns + r.e2e_s * NS for r in requests) - min(r.start_ns for r in requests)) / NS
    total_in, total_out = sum(r.input_tokens for r in good), sum(r.output_tokens for r in good)
    result: dict[str, Any] = {
        "duration": duration,
        "completed": len(good),
        "failed": len(requests) - len(good),
        "total_input_tokens": total_in,
        "total_output_tokens": total_out,
        "request_throughput": len(good) / duration,
        "output_throughput": total_out / duration,
        "total_token_throughput": (total_in + total_out) / duration,
    }
    series = {
        "ttft": [r.ttft_s for r in good],
        "tpot": [(r.e2e_s - r.ttft_s) / (r.output_tokens - 1) for r in good if r.output_tokens > 1],
        "itl": [itl for r in good for itl in r.itls_s],
        "e2el": [r.e2e_s for r in good],
    }
    for name, values in series.items():
        ms = np.array(values or [0.0]) * 1e3
        result[f"mean_{name}_ms"] = float(ms.mean())
        result[f"median_{name}_ms"] = float(np.median(ms))
        result[f"std_{name}_ms"] = float(ms.std())
        result[f"p99_{name}_ms"] = float(np.percentile(ms, 99))
    return result


def write_benchmark(path: Path, plan: Plan, requests: list[Request]) -> dict[str, Any]:
    """Write a vLLM style result with details and return its figures."""
    s = plan.scenario
    clock = plan.epoch_ns if s.start_clock == "epoch" else MONOTONIC_AT_EPOCH_NS
    figures = summarise(requests)
    stamp = str(np.datetime64(plan.epoch_ns + plan.end_ns, "ns").astype("datetime64[s]"))
    result = {
        "synthetic": True,
        "date": stamp.replace("-", "").replace(":", "").replace("T", "-"),
        "backend": "vllm",
        "model_id": "synthetic/llama",
        "tokenizer_id": "synthetic/llama",
        "num_prompts": len(requests),
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": s.batch_size,
        **figures,
        "input_lens": [r.input_tokens for r in requests],
        "output_lens": [r.output_tokens for r in requests],
        "ttfts": [r.ttft_s for r in requests],
        "itls": [list(r.itls_s) for r in requests],
        "start_times": [(clock + r.start_ns) / NS for r in requests],
        "generated_texts": [""] * len(requests),
        "errors": ["" if r.succeeded else "synthetic failure" for r in requests],
    }
    path.write_text(json.dumps(result), encoding="utf-8")
    return figures
