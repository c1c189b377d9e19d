"""``experiment_metadata.json``: what the experiment's own script wrote down.

``backend, tensor_parallel_size, batch_size`` and whatever else; it fills what the card leaves open. Of what
else is there, numbers and known names are kept: free text may hold anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ingest.credentials import is_secret_name
from ingest.errors import FormatError
from ingest.formats.base import Batch, Reading, Source
from ingest.formats.bench_common import clean, finite, head_keys, integer, one_object
from ingest.formats.public import public_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 4_000_000
_KEYS = {b"backend", b"tensor_parallel_size", b"batch_size"}
_BENCHMARK_KEYS = {
    b"duration",
    b"completed",
    b"ttfts",
    b"request_throughput",
    b"traceEvents",
    b"wall_clock_ns",
}
# A profiled machine's environment, commands, host and user names, and credentials stay out of the lake.
_PRIVATE = re.compile(
    r"(^|_)(env|environ|environment|env_vars|cmd|cmdline|command|command_line|argv|host|hostname|user|username"
    r"|token|secret|passwd|password|credentials?|api_?key|access_?key|private_?key)$",
    re.IGNORECASE,
)
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_. -]{0,63}")
# Fields of text that tell of the software and the hardware, beside all that end in `version`.
_TEXTS = frozenset(
    ("backend", "framework", "engine", "model", "model_id", "model_name", "model_family", "tokenizer", "precision",
     "dtype", "kv_cache_dtype", "quantization", "attention_backend", "compiler", "mode", "executor", "phase",
     "dataset", "dataset_name", "gpu", "gpu_name", "gpu_model", "uuid", "topology", "collective", "communication_library",
     "comm_library", "date", "started_at", "recorded_by", "schedule", "parallelism")
)  # fmt: skip
# Where a mere `name` is that of software or hardware.
_NAMED = frozenset(("gpu", "gpus", "model", "framework", "engine", "dataset"))
_TEXT_CHARS = 200
_MAX_DEPTH = 32


class Metadata:
    """The experiment's own description."""

    name = "metadata"
    priority = 31
    summary = "experiment metadata (experiment_metadata.json): backend, tensor_parallel_size, batch_size"
    tables: tuple[str, ...] = ()

    def sniff(self, source: Source) -> bool:
        """Recognise the file's name, or two of its three keys in an object that is no benchmark result."""
        if source.is_dir or not source.head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return False
        if re.fullmatch(r"experiment_metadata.*\.json", source.path.name):
            return True
        keys = head_keys(source.head)
        return len(keys & _KEYS) >= 2 and not keys & _BENCHMARK_KEYS

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Check the file; it has no table of its own."""
        _parse(reading.source)
        yield from ()


def parse_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata as plain values that JSON can hold (NaN and Infinity become null).

    Fields that may hold an environment, a command line, a host, a user or a credential are left out, and
    so is text under names that are not known. Raises :class:`FormatError`.
    """
    return _parse(Source(path, path.name))


def _parse(source: Source) -> dict[str, Any]:
    found = one_object(source, MAX_BYTES)
    for key in ("tensor_parallel_size", "batch_size"):
        value = found.get(key)
        if value is not None and not isinstance(value, list):
            number = integer(source.name, key, value)
            if number is not None and number < 1:
                raise FormatError(source.name, f"{key}: {number} is below 1.", "write what the run used.")
            found[key] = number
    backend = found.get("backend")
    if backend is not None and not isinstance(backend, str):
        raise FormatError(
            source.name, f"backend: {str(backend)[:60]} is not a text.", "name the serving backend."
        )
    if _is_deeper(found, _MAX_DEPTH):
        raise FormatError(
            source.name, f"nested more than {_MAX_DEPTH} levels deep.", "is it an experiment's metadata?"
        )
    cleaned = _clean(found)
    assert isinstance(cleaned, dict)
    return cleaned


_LEFT_OUT = object()


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(v, levels - 1) for v in inner)


def _clean(value: Any, key: str = "", parent: str = "") -> Any:
    """Leave private fields and free text out and turn numbers into those of JSON, at any depth."""
    if isinstance(value, dict):
        fields = {
            k: _clean(v, k, key) for k, v in value.items()
            if _KEY.fullmatch(k) and not _PRIVATE.search(k) and not is_secret_name(k)
        }  # fmt: skip
        return {k: v for k, v in fields.items() if v is not _LEFT_OUT}
    if isinstance(value, list):
        return [v for v in (_clean(v, key, parent) for v in value) if v is not _LEFT_OUT]
    if isinstance(value, str):
        name = key.lower()
        if name in _TEXTS or name.endswith("version") or (name == "name" and parent.lower() in _NAMED):
            # A lone surrogate from an escape cannot be written as UTF-8.
            text = clean(value).strip()
            return public_name(text) if text.isprintable() and len(text) <= _TEXT_CHARS else _LEFT_OUT
        return _LEFT_OUT
    if isinstance(value, (bool, int)) or value is None:
        return value
    return finite(value)
