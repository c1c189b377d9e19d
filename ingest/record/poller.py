"""One thread a GPU that reads its counters on absolute ticks into an NVF1 file.

Tick k is at start + k × interval, whatever the reads before it took. A tick that has passed when its turn
comes is counted as missed and not made up for. Records go to the kernel unbuffered twice a second, so that a
poller killed by SIGKILL loses at most that; in memory there is room for one second of polls.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.record.nvml import Choice, FieldReader, Gpu

_HEADER = np.array([(b"NVF1", 1, 40, 8)], [("m", "S4"), ("v", "<u2"), ("s", "<u2"), ("h", "<i4")])
_FLUSH_NS = 500_000_000
_NAP_S = 0.05  # longest sleep, so that a stop is heard
_SLOW_US = 200_000  # intervals are counted by the µs up to here
_PR_SET_TIMERSLACK = 29
_RETURN_AT = 28  # offset of nvmlReturn in nvmlFieldValue_t


class Poller(threading.Thread):
    """Polls one GPU until :meth:`stop`; :attr:`error` holds what ended it early."""

    def __init__(self, path: Path, gpu: Gpu, reader: FieldReader, choice: Choice, interval_ms: float) -> None:
        super().__init__(name=f"poller-gpu{gpu.index}", daemon=True)
        self.path, self.gpu, self.choice, self.interval_ms = path, gpu, choice, interval_ms
        self.error: BaseException | None = None
        self.polls = self.missed = 0
        self._reader = reader
        self._halt = threading.Event()
        self._intervals = [0] * (_SLOW_US + 1)
        self._longest_ns = self._first_ns = self._last_ns = 0
        self._reads_ns = 0
        self._failed: dict[int, int] = {}
        self._cpu_s = 0.0

    def stop(self) -> None:
        """Ask the thread to write what it holds and end."""
        self._halt.set()

    def run(self) -> None:
        """Poll. The file is whole whenever this returns."""
        try:
            _fine_timers()
            with self.path.open("wb", buffering=0) as file:
                file.write(_HEADER.tobytes())
                self._loop(file)
        except BaseException as exc:  # to be raised by the thread that waits
            self.error = exc
        finally:
            self._cpu_s = time.thread_time()

    def _loop(self, file: Any) -> None:
        interval = round(self.interval_ms * 1e6)
        values = np.frombuffer(self._reader.values, np.dtype("V40"))
        room = max(round(1e9 / interval), 2)
        block: np.ndarray[Any, Any] = np.zeros(
            (room, len(values)), np.dtype([("host", "<u8"), ("raw", "V40")])
        )
        hosts, raws = block["host"], block["raw"]
        monotonic, sleep, read, halted = time.monotonic_ns, time.sleep, self._reader.read, self._halt.is_set
        intervals, held, previous = self._intervals, 0, 0
        tick = monotonic() + interval
        flushed = monotonic()
        self._first_ns = tick
        while not halted():
            wait = tick - monotonic()
            if wait > 0:
                sleep(min(wait / 1e9, _NAP_S))
                if wait > 50_000_000:
                    continue
            begun = monotonic()
            read()
            host = monotonic()
            hosts[held], raws[held] = host, values
            held += 1
            self.polls += 1
            self._reads_ns += host - begun
            if previous:
                gap = host - previous
                intervals[min(gap // 1000, _SLOW_US)] += 1
                if gap > self._longest_ns:
                    self._longest_ns = gap
            previous = self._last_ns = host
            tick += interval
            if tick <= host:
                late = (host - tick) // interval + 1
                self.missed += late
                tick += late * interval
            if held == room or host - flushed > _FLUSH_NS:
                self._flush(file, block[:held])
                held, flushed = 0, host
        self._flush(file, block[:held])

    def _flush(self, file: Any, block: Any) -> None:
        """Write whole records, however little the kernel takes at once; count failed reads."""
        if not len(block):
            return
        content = memoryview(block.tobytes())
        codes = np.frombuffer(content, np.uint8).reshape(-1, 48)[:, 8 + _RETURN_AT : 12 + _RETURN_AT]
        for code, count in zip(*np.unique(codes.copy().view("<u4"), return_counts=True), strict=True):
            if code:
                self._failed[int(code)] = self._failed.get(int(code), 0) + int(count)
        while content:
            content = content[file.write(content) :]

    def summary(self) -> dict[str, Any]:
        """What was achieved: counts, and intervals between polls in ms (P50 and P99 to 1 µs)."""
        gaps = sum(self._intervals)
        lasted = (self._last_ns - self._first_ns) / 1e9
        return {
            "gpu": self.gpu.index,
            "file": self.path.name,
            "links": self.choice.links,
            "links_reason": self.choice.reason,
            "scopes": len(self.choice.scopes),
            "interval_ms": self.interval_ms,
            "polls": self.polls,
            "missed_ticks": self.missed,
            "failed_reads": {f"nvml_error_{code}": n for code, n in sorted(self._failed.items())},
            "seconds": round(lasted, 3),
            "read_ms_mean": round(self._reads_ns / self.polls / 1e6, 4) if self.polls else None,
            "interval_ms_mean": round(lasted * 1e3 / gaps, 4) if gaps else None,
            "interval_ms_p50": self._percentile(0.50),
            "interval_ms_p99": self._percentile(0.99),
            "interval_ms_max": round(self._longest_ns / 1e6, 3) if gaps else None,
            "cpu_pct": round(100 * self._cpu_s / lasted, 2) if lasted > 0 else None,
            "error": None if self.error is None else f"{type(self.error).__name__}: {self.error}",
        }

    def _percentile(self, share: float) -> float | None:
        left = share * sum(self._intervals)
        if not left:
            return None
        for us, count in enumerate(self._intervals):
            left -= count
            if left <= 0:
                return us / 1e3
        return None


def _fine_timers() -> None:
    """Ask Linux to wake this thread within 1 µs of its time instead of 50; a refusal only costs precision."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1000), 0, 0, 0)
