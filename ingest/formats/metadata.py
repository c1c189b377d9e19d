"""``experiment_metadata.json``: what the experiment's own script wrote down.

``backend, tensor_parallel_size, batch_size`` and whatever else; it fills what the card leaves open.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ingest.errors import FormatError
from ingest.formats.base import Batch, Reading, Source
from ingest.formats.bench_common import finite, head_keys, integer, one_object

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

    Fields that may hold an environment, a command line, a host, a user or a credential are left out.
    Raises :class:`FormatError`.
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
    cleaned = _clean(found)
    assert isinstance(cleaned, dict)
    return cleaned


def _clean(value: Any) -> Any:
    """Leave private fields out and turn numbers into those of JSON, at any depth."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items() if not _PRIVATE.search(k)}
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, str):
        # A lone surrogate from an escape cannot be written as UTF-8.
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, (bool, int)) or value is None:
        return value
    return finite(value)
