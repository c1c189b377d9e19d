"""Cut a recorded serving trace down to its first batches, scrubbed, as an archive small enough for tests.

What is left is as recorded; only the end of the profile window moves to the end of the last batch that stays,
and the benchmark result is worked out anew from the requests that stay. Of nsys' host calls only launches stay.

Example: python -m benchmarks.workloads.cut runs/qwen3-32b-tp_2-batch_4-burst OUT.tar.xz --batches 2
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads.journal import benchmark_result
from ingest.scrub.copy import scrub

_BEFORE_NS, _AFTER_NS = 60_000_000, 40_000_000  # kept around the burst before and the last batch
_TIMED = ("CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET")
_KEPT = (
    *_TIMED, "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS", "StringIds", "META_DATA_EXPORT", "ANALYSIS_DETAILS",
    "TARGET_INFO_SESSION_START_TIME", "TARGET_INFO_GPU", "TARGET_INFO_CUDA_DEVICE",
)  # fmt: skip


def main(words: list[str]) -> int:
    """Cut one trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batches", type=int, default=1)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / options.trace.name
        scrub(options.trace, folder)
        start, end = _journals(options.trace, folder, options.batches)
        _counters(folder, start, end)
        _export(folder / "profile.sqlite", start, end)
        with tarfile.open(options.out, "w:xz", preset=9) as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, f"{folder.name}/{path.name}", filter=_nobody)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")
    return 0


def _nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _journals(trace: Path, folder: Path, batches: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Write shortened journals, result and end marker; return (wall, monotonic) of first and last instant."""
    journals = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(trace.glob("workload_rank*.json"))]
    wall, monotonic, _ = min((p for j in journals for p in j["clock_pairs"]), key=lambda p: p[2])
    offset = wall - monotonic
    for journal in journals:
        journal["steps"] = [s for s in journal["steps"] if s["batch"] < batches]
        journal["requests"] = journal["requests"][: batches * journal["options"]["batch"]]
        journal["reference"] = journal["reference"][:1]
    end = max(s["end_monotonic"] for j in journals for s in j["steps"])
    for journal in journals:
        journal["window"] |= {"end_monotonic": end, "end_wall": end + offset}
        name = f"workload_rank{journal['rank']}.json"
        (folder / name).write_text(json.dumps(journal) + "\n", encoding="utf-8")
    marker: dict[str, Any] = json.loads((folder / "timing_profile_end.json").read_text(encoding="utf-8"))
    marker |= {"wall_clock_ns": end + offset, "monotonic_ns": end}
    if "wall_clock_us" in marker:
        marker["wall_clock_us"] = (end + offset) // 1000
    marker.pop("wall_clock_iso", None)
    (folder / "timing_profile_end.json").write_text(json.dumps(marker) + "\n", encoding="utf-8")
    (result,) = folder.glob("pytorch-*.json")
    old = json.loads(result.read_text(encoding="utf-8"))
    served = (
        journals
        if len(journals) * journals[0]["options"]["batch"] == old["max_concurrency"]
        else journals[:1]
    )
    new = benchmark_result(
        sorted((r for j in served for r in j["requests"]), key=lambda r: r["start_time"]),
        model=old["model_id"], backend=old["backend"], concurrency=old["max_concurrency"],
        duration=(end - journals[0]["window"]["start_monotonic"]) / 1e9,
    )  # fmt: skip
    result.write_text(json.dumps(new | {"date": old["date"]}) + "\n", encoding="utf-8")
    start = min(r["start_monotonic"] for j in journals for r in j["reference"]) - _BEFORE_NS
    return (start + offset, start), (end + _AFTER_NS + offset, end + _AFTER_NS)


def _counters(folder: Path, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Keep the reads between two instants."""
    for path in folder.glob("nvlink_trace*.bin"):
        content = path.read_bytes()
        head, body = content[:12], np.frombuffer(content[12:], np.dtype([("host", "<u8"), ("rest", "V40")]))
        kept = body[(body["host"] >= start[1]) & (body["host"] <= end[1])]
        path.write_bytes(head + kept.tobytes())


def _export(path: Path, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Keep the rows of the export between two instants, in the tables that say something of them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as con:
        (zero,) = con.execute("select min(utcEpochNs) from TARGET_INFO_SESSION_START_TIME").fetchone()
        low, high = start[0] - zero, end[0] - zero
        tables = [n for (n,) in con.execute("select name from sqlite_master where type = 'table'")]
        for name in tables:
            if name not in _KEPT:
                con.execute(f'drop table "{name}"')
        for name in _TIMED:
            if name in tables:
                con.execute(f"delete from {name} where start < {low} or start > {high}")
        con.execute(
            f"delete from CUPTI_ACTIVITY_KIND_RUNTIME where start < {low} or start > {high} "
            "or nameId not in (select id from StringIds where value like '%launch%')"
        )
        # domains and categories (75, 33) are named once, at the start
        con.execute(
            f"delete from NVTX_EVENTS where eventType not in (33, 75) and (start < {low} or start > {high})"
        )
        con.execute("vacuum")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
