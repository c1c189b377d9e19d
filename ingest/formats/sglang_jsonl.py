"""Results of SGLang's benchmark client, ``sglang.bench_serving --output-file [--output-details]``.

JSONL, one run a line, appended. Keys of its own: ``mean_e2e_latency_ms, total_throughput,
total_output_tokens_retokenized, sharegpt_output_len``; no start times. `Infinity` and `NaN` occur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ingest.formats.bench_common import SGLANG_KEYS, documents, head_keys
from ingest.formats.bench_results import result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.formats.base import Batch, Reading, Source

_NAMES = {
    "engine": ("backend",),
    "model_id": ("model_id", "model"),
    "dataset": ("dataset_name",),
    "started_at": ("date",),
    "duration_s": ("duration",),
    "total_token_throughput": ("total_throughput", "total_token_throughput"),
    "mean_e2el_ms": ("mean_e2e_latency_ms",),
    "median_e2el_ms": ("median_e2e_latency_ms",),
    "p99_e2el_ms": ("p99_e2e_latency_ms",),
}


class SglangJsonl:
    """Results in SGLang's JSON lines."""

    name = "sglang_jsonl"
    priority = 41
    summary = "SGLang benchmark results (*.jsonl): keys such as mean_e2e_latency_ms, sharegpt_output_len"
    tables = ("benchmark_runs", "requests")

    def sniff(self, source: Source) -> bool:
        """Recognise a key that only SGLang writes."""
        if source.is_dir or source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
            return False
        return bool(head_keys(source.head) & SGLANG_KEYS)

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Yield each line's run, then its requests."""
        reading.producer = "sglang.bench_serving"
        for line, found in documents(reading.source):
            if found.get("model_id") is None and isinstance(info := found.get("server_info"), dict):
                found["model_id"] = _text(info.get("model_path"))
            yield from result(reading, line, found, _NAMES)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
