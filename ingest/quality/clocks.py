"""Do the clocks of a trace agree: counters, host, markers, nsys.

Counters and kernels are stamped by different clocks. Where communication kernels run, NVLink moves bytes;
the shift at which both signals correlate best is how far those clocks are apart. A lag is positive when the
traffic shows after its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.quality.catalogue import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

_SQL = Path(__file__).parent / "sql"
CELL_NS = 1_000_000
FINDING_MS, ERROR_MS = 5.0, 100.0
_LONGEST_LAG_NS = 10_000_000_000
_LONGEST_NS = 100_000_000_000  # of kernels: bursts repeat, more of them say nothing new
_SHORTEST_NS = 200_000_000
_LEAST_CORRELATION, _LEAST_CERTAINTY = 0.5, 0.2
_FLAT = 0.01  # correlations this near are equal
# A few bursts agree by chance: of 300 pairs of signals with ten bursts at random times none passed these bars,
# with four bursts one in three passed bars half as high.
_LEAST_BURSTS = 10


@dataclass(frozen=True, slots=True)
class Lag:
    """How far traffic lies behind its kernels; ``lag_ms`` is None, with the ``reason``, where nobody can say."""

    lag_ms: float | None
    correlation: float | None = None
    certainty: float | None = None
    reason: str | None = None


def clock_facts(con: duckdb.DuckDBPyConnection) -> list[Measured]:
    """Return the facts about clocks, from the views and tables that the facts of all tables are made of."""
    rows = con.execute((_SQL / "clocks.sql").read_text(encoding="utf-8")).fetchall()
    return [Measured(*row) for row in rows] + list(_lag_facts(con))


def _lag_facts(con: duckdb.DuckDBPyConnection) -> Iterator[Measured]:
    ranges = con.execute((_SQL / "lag_ranges.sql").read_text(encoding="utf-8")).fetchall()
    lags = [_lag_of_gpu(con, *row) for row in ranges]
    for (gpu, *_), lag in zip(ranges, lags, strict=True):
        subject = f"gpu {gpu}"
        yield Measured("gpu_kernels", "kernel_lag_ms", subject, lag.lag_ms, lag.reason)
        yield Measured("gpu_kernels", "kernel_lag_correlation", subject, lag.correlation)
        yield Measured("gpu_kernels", "kernel_lag_certainty", subject, lag.certainty)
    sure = [lag.lag_ms for lag in lags if lag.lag_ms is not None]
    if sure:
        lag_ms = float(np.median(sure))
        yield Measured("gpu_kernels", "kernel_lag_verdict", None, lag_ms, _verdict(lag_ms))
    else:
        reason = next((lag.reason for lag in lags), "no counters of NVLink")
        yield Measured("gpu_kernels", "kernel_lag_verdict", None, None, f"unknown: {reason}")


def _verdict(lag_ms: float) -> str:
    """Word a lag.

    >>> [_verdict(x) for x in (-5.0, 5.5, -101.0)]
    ['aligned', 'apart', 'far apart']
    """
    if abs(lag_ms) <= FINDING_MS:
        return "aligned"
    return "apart" if abs(lag_ms) <= ERROR_MS else "far apart"


def _lag_of_gpu(
    con: duckdb.DuckDBPyConnection, gpu: int, first_read: int, last_read: int, poll_ns: float | None,
    first_kernel: int | None, last_kernel: int | None, first_comm: int | None, comm_kernels: int,
) -> Lag:  # fmt: skip
    if first_kernel is None or last_kernel is None or first_comm is None:
        return Lag(None, reason="no communication kernel on a GPU with counters")
    if comm_kernels < _LEAST_BURSTS or poll_ns is None:
        return Lag(None, reason="too few communication kernels or reads")
    first_kernel = max(first_kernel, first_comm - _LONGEST_LAG_NS)
    last_kernel = min(last_kernel, first_kernel + _LONGEST_NS)
    if min(last_kernel, last_read) - max(first_kernel, first_read) < _SHORTEST_NS:
        return Lag(None, reason="counters and kernels have less than 0.2 s in common")
    grid = first_kernel - _LONGEST_LAG_NS
    cells = (last_kernel + _LONGEST_LAG_NS - grid) // CELL_NS + 1
    con.execute(
        "create or replace temp table lag_grid as "
        "select ?::int as gpu_index, ?::bigint as start_ns, ?::bigint as end_ns, ?::bigint as cell_ns",
        [gpu, grid, grid + cells * CELL_NS, CELL_NS],
    )
    found = con.execute((_SQL / "lag.sql").read_text(encoding="utf-8")).fetchnumpy()
    kernels, traffic = (_signal(found, name, cells) for name in ("kernels", "traffic"))
    seen = _cells(first_kernel - grid, last_kernel - grid, cells)
    read = _cells(first_read - grid, last_read - grid, cells)
    # Kernels side by side on two streams move no more bytes than the links do.
    lag = best_lag(np.minimum(kernels, 1), seen, traffic, read)
    if lag.lag_ms is not None and FINDING_MS < abs(lag.lag_ms) <= poll_ns / 2e6:
        why = f"{lag.lag_ms:g} ms is less than half the time between polls, {poll_ns / 1e6:.1f} ms"
        return Lag(None, lag.correlation, lag.certainty, why)
    return lag


def _signal(found: dict[str, Any], name: str, cells: int) -> np.ndarray[Any, Any]:
    """Return a signal's mean in each cell."""
    rows = found["signal"] == name
    at = found["cell"][rows].astype(np.int64)
    change = np.bincount(at, weights=found["change"][rows], minlength=cells)
    part = np.bincount(at, weights=found["part"][rows], minlength=cells)
    before = np.concatenate([[0.0], np.cumsum(change)[:-1]])
    mean: np.ndarray[Any, Any] = before + part / CELL_NS
    return mean


def _cells(first_ns: int, last_ns: int, cells: int) -> slice:
    """Return the cells that lie whole within [first, last)."""
    return slice(max(-(-first_ns // CELL_NS), 0), min(max(last_ns // CELL_NS, 0), cells))


def best_lag(kernels: np.ndarray[Any, Any], seen: slice, traffic: np.ndarray[Any, Any], read: slice) -> Lag:
    """Return the shift of ``traffic`` against ``kernels`` with the highest Pearson correlation.

    Both are means by cell of :data:`CELL_NS` on one grid; ``seen`` and ``read`` are the cells in which each is
    known. At each shift only cells known in both count, at least half of the shorter; fewer cells count less,
    by the square root, since they agree by chance more easily. Of shifts that are as good the one nearest to 0
    is taken: a kernel that waits for its peers is longer than its traffic.
    """
    x, y = kernels[seen], traffic[read]
    for signal, name in ((x, "communication kernels"), (y, "NVLink traffic")):
        if len(signal) < _SHORTEST_NS // CELL_NS or _bursts(signal) < _LEAST_BURSTS:
            return Lag(None, reason=f"{name} without structure: fewer than {_LEAST_BURSTS} bursts")
    shifts, correlation, cells = _correlations(x, y)
    shifts = shifts + read.start - seen.start
    longest = min(_LONGEST_LAG_NS // CELL_NS, min(len(x), len(y)) // 2)
    usable = (cells >= min(len(x), len(y)) // 2) & (np.abs(shifts) <= longest) & np.isfinite(correlation)
    if not usable.any():
        return Lag(None, reason="counters and kernels have too little time in common")
    shifts, correlation, cells = shifts[usable], correlation[usable], cells[usable]
    score = correlation * np.sqrt(cells / cells.max())
    peak = int(np.argmax(score))
    top = float(score[peak])
    if top < _LEAST_CORRELATION:
        return Lag(
            None,
            float(correlation[peak]),
            reason=f"traffic does not follow the kernels (correlation {top:.2f})",
        )
    low, high = _lobe(score, peak)
    beyond = np.concatenate([score[:low], score[high + 1 :]])
    certainty = top - float(beyond.max()) if len(beyond) else 0.0
    flat: np.ndarray[Any, Any] = np.flatnonzero(score[low : high + 1] >= top - _FLAT) + low
    best = int(flat[np.argmin(np.abs(shifts[flat]))])
    lag = float(shifts[best] * CELL_NS / 1e6)
    if certainty < _LEAST_CERTAINTY and abs(lag) > FINDING_MS:
        # The nearest of several equal peaks may be the true one; which, nobody can say.
        return Lag(None, float(correlation[best]), certainty, "traffic repeats itself: several lags fit")
    return Lag(lag, float(correlation[best]), certainty)


def _bursts(signal: np.ndarray[Any, Any]) -> int:
    """How often a signal rises above a tenth of its maximum."""
    high = signal > signal.max() / 10
    return int(np.count_nonzero(high[1:] & ~high[:-1]))


def _lobe(score: np.ndarray[Any, Any], peak: int) -> tuple[int, int]:
    """First and last index around ``peak`` before the score falls below half of the top."""
    below = np.flatnonzero(score < score[peak] / 2)
    at = int(np.searchsorted(below, peak))
    low = int(below[at - 1]) + 1 if at > 0 else 0
    high = int(below[at]) - 1 if at < len(below) else len(score) - 1
    return low, high


def _correlations(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[Any, Any, Any]:
    """Pearson correlation of the overlapping parts of ``x[i]`` and ``y[i + shift]``, at every shift.

    Returns shifts, correlations and the number of overlapping cells.
    """
    n, m = len(x), len(y)
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    size = 1 << (n + m - 1).bit_length()

    def slide(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        product = np.fft.irfft(np.conj(np.fft.rfft(a, size)) * np.fft.rfft(b, size), size)
        both: np.ndarray[Any, Any] = np.concatenate([product[size - n + 1 :], product[:m]])
        return both

    shifts = np.arange(-n + 1, m)
    first, last = np.maximum(0, -shifts), np.minimum(n, m - shifts)  # cells of x that overlap
    cells = last - first

    def sums(a: np.ndarray[Any, Any], low: Any, high: Any) -> np.ndarray[Any, Any]:
        total = np.concatenate([[0.0], np.cumsum(a)])
        between: np.ndarray[Any, Any] = total[high] - total[low]
        return between

    sx, sxx = sums(x, first, last), sums(x * x, first, last)
    sy, syy = sums(y, first + shifts, last + shifts), sums(y * y, first + shifts, last + shifts)
    spread = (sxx - sx * sx / cells) * (syy - sy * sy / cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where either part is constant nothing correlates; what is left there is rounding.
        correlation = np.where(
            spread > 1e-12 * cells**2, (slide(x, y) - sx * sy / cells) / np.sqrt(spread), 0
        )
    return shifts, np.clip(correlation, -1, 1), cells
