"""The comparator: a record-by-record Python loop over the counter files, as older scripts do it.

It shares no code with tracelake and takes the NVLink metrics from the same files: the field's table (total,
TX, peak at 1 ms, average, bursts, usage, phases) and the legacy script's. ``python python_loop.py TRACE…``
prints one JSON object a trace.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
from bisect import bisect_right
from pathlib import Path
from typing import Any

BUCKET_NS, LEGACY_NS = 1_000_000, 10_000_000
BURST_GB_S, LEGACY_BURST_GB_S = 20.0, 60.0
PEAK_GB_S, LEGACY_PEAK_GB_S = 900.0, 600.0  # the simulated GPU is an H100
RECORD = struct.Struct("<QIIqqIIQ")


def metrics(trace: Path) -> dict[str, float]:
    """Return the metrics of one trace directory."""
    begin = json.loads((trace / "timing_profile_start.json").read_text())["wall_clock_ns"]
    end = json.loads((trace / "timing_profile_end.json").read_text())["wall_clock_ns"]
    phases = _phases(trace / "profile.sqlite", begin, end)
    gpus = [_gpu(path, begin, end, phases) for path in sorted(trace.glob("nvlink_trace*.bin"))]
    n, window = len(gpus), end - begin
    total, tx = sum(g["bytes"] for g in gpus), sum(g["tx"] for g in gpus)
    average, peak = total / window / n, max(g["peak"] for g in gpus)
    old_average, old_peak = sum(g["old_avg"] for g in gpus) / n, max(g["old_peak"] for g in gpus)
    found = {
        "total_nvlink_gb": total / 1e9,
        "tx_nvlink_gb": tx / 1e9,
        "peak_nvlink_gb_s": peak,
        "avg_nvlink_gb_s": average,
        "burst_intensity": peak / average,
        "burst_duration_s": sum(g["burst_ns"] for g in gpus) / n / 1e9,
        "bw_usage_pct": 100 * average / PEAK_GB_S,
        "bursts": sum(g["bursts"] for g in gpus),
        "legacy.total_nvlink_gb": sum(g["old_bytes"] for g in gpus) / 1e9,
        "legacy.peak_nvlink_gb_s": old_peak,
        "legacy.avg_nvlink_gb_s": old_average,
        "legacy.burst_intensity": old_peak / old_average,
        "legacy.burst_duration_s": sum(g["old_burst_s"] for g in gpus) / n,
        "legacy.bw_usage_pct": 100 * old_average / LEGACY_PEAK_GB_S,
        "legacy.prefill_avg_bw_gb_s": sum(g["old_prefill"] for g in gpus) / n,
        "legacy.decode_avg_bw_gb_s": sum(g["old_decode"] for g in gpus) / n,
    }
    for phase in sorted({p[2] for p in phases}):
        length = sum(p[1] - p[0] for p in phases if p[2] == phase)
        moved = sum(g["phases"].get(phase, 0.0) for g in gpus)
        found[f"{phase}_avg_bw_gb_s"] = moved / length / n
    return found


def _phases(sqlite: Path, begin: int, end: int) -> list[tuple[int, int, str]]:
    """Return (start, end, phase) of the NVTX ranges in the window, in order; they do not overlap."""
    con = sqlite3.connect(f"file:{sqlite}?mode=ro", uri=True)
    zero = con.execute("select utcEpochNs from TARGET_INFO_SESSION_START_TIME").fetchone()[0]
    rows = con.execute(
        "select e.start, e.end, coalesce(e.text, s.value) from NVTX_EVENTS e "
        "left join StringIds s on s.id = e.textId where e.end is not null order by e.start"
    ).fetchall()
    con.close()
    found = set()  # each process of a node names the same ranges
    for start, stop, text in rows:
        phase = next((p for p in ("prefill", "decode") if p in text.lower()), None)
        start, stop = max(start + zero, begin), min(stop + zero, end)
        if phase and stop > start:
            found.add((start, stop, phase))
    return sorted(found)


def _gpu(path: Path, begin: int, end: int, phases: list[tuple[int, int, str]]) -> dict[str, Any]:
    starts = [p[0] for p in phases]
    in_phase: dict[str, float] = {}
    buckets: dict[int, float] = {}
    old_buckets: dict[int, int] = {}
    old_steps: list[tuple[int, int]] = []
    last: dict[tuple[int, int], tuple[int, int]] = {}
    total = tx = 0.0
    old_bytes, first_start, last_end = 0, None, 0
    with path.open("rb") as file:
        file.read(12)
        while chunk := file.read(RECORD.size * 65_536):
            for _, field, link, time_us, _, _, failed, value in RECORD.iter_unpack(chunk):
                if failed or field not in (138, 139):
                    continue
                now, key = time_us * 1000, (field, link)
                before = last.get(key)
                last[key] = (now, value)
                if before is None or now <= before[0]:
                    continue
                start, moved = before[0], (value - before[1]) * 1024
                if first_start is None or start < first_start:
                    first_start = start
                last_end = max(last_end, now)
                # The legacy script's arithmetic: all bytes where the interval starts.
                reset = moved < 0
                slot = round((start - begin) / 1e9, 2)
                old_key = round(slot * 100)
                old_buckets[old_key] = old_buckets.get(old_key, 0) + (0 if reset else moved)
                old_bytes += 0 if reset else moved
                old_steps.append((start, 0 if reset else moved))
                if reset or now <= begin or start >= end:
                    continue
                low, high, rate = max(start, begin), min(now, end), moved / (now - start)
                part = (high - low) * rate
                total += part
                if field == 138:
                    tx += part
                at = low
                while at < high:
                    bucket = (at - begin) // BUCKET_NS
                    stop = min(begin + (bucket + 1) * BUCKET_NS, high)
                    buckets[bucket] = buckets.get(bucket, 0.0) + (stop - at) * rate
                    at = stop
                i = max(bisect_right(starts, low) - 1, 0)
                while i < len(phases) and phases[i][0] < high:
                    overlap = min(phases[i][1], high) - max(phases[i][0], low)
                    if overlap > 0:
                        in_phase[phases[i][2]] = in_phase.get(phases[i][2], 0.0) + overlap * rate
                    i += 1
    peak = 0.0
    burst_ns = bursts = 0
    previous = None
    for bucket in sorted(buckets):
        length = min(begin + (bucket + 1) * BUCKET_NS, end) - (begin + bucket * BUCKET_NS)
        rate = buckets[bucket] / length
        peak = max(peak, rate)
        if rate > BURST_GB_S:
            burst_ns += length
            bursts += previous != bucket - 1
            previous = bucket
    split = max(first_start or 0, begin) + 1_000_000_000
    prefill = sum(b for s, b in old_steps if split - 1_000_000_000 <= s < split)
    decode = sum(b for s, b in old_steps if s >= split)
    return {
        "bytes": total, "tx": tx, "peak": peak, "burst_ns": burst_ns, "bursts": bursts, "phases": in_phase,
        "old_bytes": old_bytes, "old_peak": max(old_buckets.values()) / LEGACY_NS,
        "old_avg": old_bytes / (last_end - (first_start or 0)),
        "old_burst_s": sum(b / LEGACY_NS > LEGACY_BURST_GB_S for b in old_buckets.values()) * 0.01,
        "old_prefill": prefill / 1e9, "old_decode": decode / max(last_end - split, 1),
    }  # fmt: skip


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps({"trace": Path(name).name, **metrics(Path(name))}), flush=True)
