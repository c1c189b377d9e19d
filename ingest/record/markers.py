"""Timing markers: an instant on both clocks, under a name."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from ingest.errors import UsageError

DIR_VARIABLE = "TRACELAKE_RECORD_DIR"


def marker(name: str, dir: Path | str | None = None) -> Path:
    """Mark this instant as ``name``: write ``timing_<name>.json`` and return its path.

    ``profile_start`` and ``profile_end`` bound the profile window. ``dir`` defaults to the directory of the
    running `tracelake record` (environment variable ``TRACELAKE_RECORD_DIR``), else to the current one.
    Raises :class:`UsageError` for a name that is not letters, digits, `_`, `-` or `.`.
    """
    return write_marker(Path(dir or os.environ.get(DIR_VARIABLE, ".")), name, now())


def now() -> tuple[int, int]:
    """Return (UTC ns since the epoch, CLOCK_MONOTONIC ns) of one instant, to about a microsecond."""
    # The wall clock is read between two readings of the other; the tightest of a few pairs wins.
    best: tuple[int, int, int] | None = None
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = (after - before, wall, (before + after) // 2)
    assert best is not None
    return best[1], best[2]


def write_marker(folder: Path, name: str, at: tuple[int, int]) -> Path:
    """Write the marker ``name`` for the instant ``at`` (see :func:`now`), whole or not at all."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UsageError(f"marker {name!r}", "a name is letters, digits, '_', '-' and '.'.")
    wall, monotonic = at
    content = {
        "name": name,
        "wall_clock_ns": wall,
        "wall_clock_us": wall // 1000,
        "monotonic_ns": monotonic,
        "wall_clock_iso": datetime.fromtimestamp(wall / 1e9, UTC).isoformat(),
    }
    path = folder / f"timing_{name}.json"
    temporary = folder / f".timing_{name}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path
