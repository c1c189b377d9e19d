"""Timing markers, ``timing_<name>.json``: the wall clock and CLOCK_MONOTONIC at one instant.

Keys: ``name, wall_clock_ns, wall_clock_us, monotonic_ns, wall_clock_iso``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ingest.credentials import redact
from ingest.errors import FormatError
from ingest.formats.base import Batch, Reading, Source, rows_batch
from ingest.formats.bench_common import clean, head_keys, integer, one_object

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1_000_000
_FILE = re.compile(r"timing_(.+)\.json")
_HINT = "a marker needs wall_clock_ns (or wall_clock_us), a whole number since the Unix epoch."


class Markers:
    """One instant, named."""

    name = "markers"
    priority = 30
    summary = "timing marker (timing_<name>.json): a JSON object with name and wall_clock_ns"
    tables = ("clock_markers",)

    def sniff(self, source: Source) -> bool:
        """Recognise the keys; a file named `timing_*.json` is ours too, to be refused with a reason."""
        if source.is_dir:
            return False
        if _FILE.fullmatch(source.path.name):
            return True
        keys = head_keys(source.head)
        return (
            b"name" in keys
            and bool(keys & {b"wall_clock_ns", b"wall_clock_us"})
            and source.head.lstrip()[:1] == b"{"
        )

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Yield one row."""
        source = reading.source
        found = one_object(source, MAX_BYTES)
        wall = _wall(source.name, found)
        monotonic = integer(source.name, "monotonic_ns", found.get("monotonic_ns"))
        if monotonic is not None and monotonic < 0:
            raise FormatError(source.name, f"monotonic_ns: {monotonic} is negative.", "is the file damaged?")
        reading.saw("clock_markers", 1)
        yield rows_batch(
            "clock_markers",
            [{"path": source.name, "name": _name(source, found), "wall_ns": wall, "monotonic_ns": monotonic}],
        )


def _name(source: Source, found: dict[str, Any]) -> str:
    name = found.get("name")
    if name is None and (in_file := _FILE.fullmatch(source.path.name)):
        name = in_file.group(1)
    if not isinstance(name, str) or not name.strip():
        raise FormatError(
            source.name, "name: the marker has none.", "name the instant, such as profile_start."
        )
    return redact(clean(name.strip()))[:200]


def _wall(where: str, found: dict[str, Any]) -> int:
    ns = integer(where, "wall_clock_ns", found.get("wall_clock_ns"))
    us = integer(where, "wall_clock_us", found.get("wall_clock_us"))
    if ns is None and us is None:
        raise FormatError(where, "wall_clock_ns: the marker is without its number.", _HINT)
    if ns is not None and us is not None and abs(ns // 1000 - us) > 1000:
        raise FormatError(where, f"wall_clock_ns {ns} and wall_clock_us {us} are two instants.", "keep one.")
    wall = ns if ns is not None else (us or 0) * 1000
    if not 0 <= wall < 2**63:
        raise FormatError(where, f"wall_clock_ns: {wall} is no time since 1970.", _HINT)
    return wall
