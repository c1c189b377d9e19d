"""Results of vLLM's benchmark client, ``vllm bench serve --save-result [--save-detailed]``.

One JSON object a file, pretty-printed or not; ``--append-result`` puts one a line. Keys: ``date, backend,
model_id, num_prompts, request_rate, duration, completed, failed, total_*_tokens, *_throughput`` and
``mean|median|p99_{ttft,tpot,itl,e2el}_ms``; with details arrays of one entry a request, failed ones included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.formats.bench_common import SGLANG_KEYS, documents, head_keys
from ingest.formats.bench_results import result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.formats.base import Batch, Reading, Source

_NAMES = {
    "engine": ("backend", "endpoint_type"),
    "model_id": ("model_id", "model"),
    "dataset": ("dataset_name", "dataset"),
    "started_at": ("date",),
    "duration_s": ("duration",),
    "total_token_throughput": ("total_token_throughput", "total_throughput"),
}
_OURS = {
    b"date", b"backend", b"endpoint_type", b"model_id", b"tokenizer_id", b"num_prompts", b"request_rate",
    b"burstiness", b"max_concurrency", b"duration", b"completed",
    b"total_input_tokens", b"total_output_tokens",
    b"request_throughput", b"output_throughput", b"total_token_throughput", b"ttfts", b"mean_ttft_ms",
}  # fmt: skip


class VllmJson:
    """Results in vLLM's JSON."""

    name = "vllm_json"
    priority = 40
    summary = "vLLM-style benchmark result (*.json): keys such as model_id, num_prompts, request_throughput"
    tables = ("benchmark_runs", "requests")

    def sniff(self, source: Source) -> bool:
        """Recognise four of the keys, and none that only SGLang writes."""
        if source.is_dir or source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
            return False
        keys = head_keys(source.head)
        return len(keys & _OURS) >= 4 and not keys & SGLANG_KEYS and b"traceEvents" not in keys

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Yield each result's run, then its requests."""
        reading.producer = "vllm bench serve"
        for line, found in documents(reading.source):
            yield from result(reading, line, found, _NAMES)
