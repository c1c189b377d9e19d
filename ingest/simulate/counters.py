"""Counter files, poll by poll in chunks, and what the counters as written add up to.

The account kept beside the writing is the truth about bytes: it interpolates the written counters at a
sorted list of instants (bucket edges, phase borders), series by series. It shares no code with the SQL that
it judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.simulate.scenario import DIRECTIONS, MONOTONIC_AT_EPOCH_NS, NS, Plan

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = np.array([(b"NVF1", 1, 40, 8)], [("m", "S4"), ("v", "<u2"), ("s", "<u2"), ("h", "<i4")])
_RECORD = np.dtype(
    {
        "names": ["host", "field", "scope", "time_us", "latency", "type", "ret", "value"],
        "formats": ["<u8", "<u4", "<u4", "<i8", "<i8", "<u4", "<u4", "<u8"],
        "offsets": [0, 8, 12, 16, 24, 32, 36, 40],
        "itemsize": 48,
    }
)
_CHUNK_RECORDS = 250_000
_FAILED = 999  # NVML_ERROR_UNKNOWN
_START_KIB = 1 << 32  # far above what a run adds after a reset, so that a reset always shows as a fall


class Account:
    """Cumulative bytes of each GPU and direction at given instants, by the counters as written.

    ``at_ns``: sorted instants since the plan's epoch. ``kib``: shape (gpus, 2, instants), KiB since the first
    poll; an interval whose counter fell adds nothing.
    """

    def __init__(self, plan: Plan, at_ns: np.ndarray[Any, Any]) -> None:
        self.at_ns = at_ns
        self.kib = np.zeros((plan.scenario.gpus, 2, len(at_ns)))
        self.records = self.failed = self.resets = 0
        self._last: dict[tuple[int, int], tuple[int, int, float]] = {}
        self._done: dict[tuple[int, int], int] = {}

    def add(self, gpu: int, series: int, times: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> None:
        """Take the next good reads of one series (link = series // 2, direction = series % 2)."""
        if not len(times):
            return
        key = (gpu, series)
        grown = 0.0
        if key in self._last:
            last_time, last_value, grown = self._last[key]
            times, values = np.concatenate([[last_time], times]), np.concatenate([[last_value], values])
        else:
            self._done[key] = int(np.searchsorted(self.at_ns, times[0], "left"))
        steps = np.diff(values)
        self.resets += int(np.count_nonzero(steps < 0))
        total = np.concatenate([[grown], grown + np.cumsum(np.where(steps < 0, 0, steps))])
        low, high = self._done[key], int(np.searchsorted(self.at_ns, times[-1], "left"))
        self.kib[gpu, series % 2, low:high] += np.interp(self.at_ns[low:high], times, total)
        self._done[key] = high
        self._last[key] = (int(times[-1]), int(values[-1]), float(total[-1]))

    def close(self) -> None:
        """Count what was sent before the last poll at every later instant."""
        for (gpu, series), (_, _, total) in self._last.items():
            self.kib[gpu, series % 2, self._done[gpu, series] :] += total


def write_counters(path: Path, plan: Plan, gpu: int, account: Account) -> None:
    """Write one GPU's NVF1 file and tell ``account`` every good read."""
    s = plan.scenario
    width = s.series_per_gpu
    rng = np.random.default_rng((s.seed, 1, gpu))
    knots = [plan.traffic(gpu, d) for d in DIRECTIONS]
    offsets = _START_KIB + rng.integers(0, 1 << 20, width)
    resets = plan.resets(gpu)
    # A link's counters are read a little after the one before it; the two directions come together.
    gap_us = 1 if width * 1000 < plan.interval_ns // 3 else 0
    lag_ns: np.ndarray[Any, Any] = np.arange(width) // 2 * gap_us * 1000
    previous: np.ndarray[Any, Any] = np.zeros(width, np.int64)
    records: np.ndarray[Any, Any] = np.zeros(0, _RECORD)
    polls_in_chunk = max(_CHUNK_RECORDS // width, 1)
    with path.open("wb") as file:
        file.write(_HEADER.tobytes())
        for first in range(0, plan.polls, polls_in_chunk):
            ticks = _ticks(plan, first, min(first + polls_in_chunk, plan.polls), rng)
            times = ticks[:, None] + lag_ns  # (polls, width), whole µs
            values, previous = _counters(times, previous, knots, resets, offsets)
            bad = rng.random(times.shape) < s.failed_reads if s.failed_reads else None
            if len(records) != times.size:
                records = _blank(times.size, s.links, width)
            _fill(records, plan, times, values, bad)
            file.write(records.data)
            account.records += times.size
            for series in range(width):
                t, v = times[:, series], values[:, series]
                if bad is not None:
                    good = ~bad[:, series]
                    account.failed += int(np.count_nonzero(~good))
                    t, v = t[good], v[good]
                account.add(gpu, series, t, v)


def _ticks(plan: Plan, first: int, stop: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Times of the polls in [first, stop), late by at most the jitter, without those a stall swallowed."""
    s = plan.scenario
    ticks: np.ndarray[Any, Any] = np.arange(first, stop, dtype=np.int64) * plan.interval_ns
    ticks += (rng.random(len(ticks)) * s.jitter * plan.interval_ns).astype(np.int64)
    for stall in s.stalls:
        begin = round(stall.start_s * NS)
        ticks = ticks[(ticks < begin) | (ticks >= begin + round(stall.seconds * NS))]
    return ticks // 1000 * 1000


def _counters(
    times: np.ndarray[Any, Any],
    previous: np.ndarray[Any, Any],
    knots: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]],
    resets: list[int],
    offsets: np.ndarray[Any, Any],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return counters in KiB, shape (polls, width), and the unreset counts of the last poll."""
    width = times.shape[1]
    per_link = 1024.0 * (width // 2)
    grown = np.empty(times.shape, np.int64)
    for direction in (0, 1):
        columns = slice(direction, None, 2)
        grown[:, columns] = np.interp(times[:, columns], *knots[direction]) / per_link
    if len(grown):
        # Interpolation may fall by one unit in the last place at a knot; a counter never does.
        np.maximum(grown[0], previous, out=grown[0])
        np.maximum.accumulate(grown, axis=0, out=grown)
        previous = grown[-1].copy()
    values = grown + offsets
    for at in resets:
        base = np.array([int(np.interp(at, *knots[d]) / per_link) for d in (0, 1)])
        after = times >= at
        values = np.where(after, np.maximum(grown - np.tile(base, width // 2), 0), values)
    return values, previous


def _blank(size: int, links: int, width: int) -> np.ndarray[Any, Any]:
    """Records of whole polls with all that stays the same from chunk to chunk."""
    records: np.ndarray[Any, Any] = np.zeros(size, _RECORD)
    table = records.reshape(-1, width)
    table["field"] = np.where(np.arange(width) % 2, 139, 138)
    table["scope"] = np.arange(width) // 2 if links else 0xFFFFFFFF
    table["type"] = 3  # NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
    table["latency"] = 5
    return records


def _fill(
    records: np.ndarray[Any, Any],
    plan: Plan,
    times: np.ndarray[Any, Any],
    values: np.ndarray[Any, Any],
    bad: np.ndarray[Any, Any] | None,
) -> None:
    table = records.reshape(times.shape)
    table["time_us"] = times // 1000 + plan.epoch_ns // 1000
    table["value"] = values
    # The host's clock is read when the call returns, 20 µs after the last field.
    table["host"] = times[:, -1:] + (MONOTONIC_AT_EPOCH_NS + 20_000)
    table["ret"] = 0 if bad is None else np.where(bad, _FAILED, 0)
    if bad is not None:
        table["value"][bad] = 0xDEAD
