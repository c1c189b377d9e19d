"""NVML counter files, "NVF1".

A 12-byte little-endian header ``<4sHHi`` (magic ``NVF1``, version 1, size of ``nvmlFieldValue_t``, size of
the host time), then records: u64 CLOCK_MONOTONIC ns read after the NVML call, and the struct as in nvml.h
(``fieldId, scopeId, timestamp, latencyUsec, valueType, nvmlReturn, value``).
Fields 138 and 139 are ``NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX/RX``: cumulative KiB of payload.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ingest.errors import FormatError
from ingest.formats.base import Batch, Reading, Source, batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

MAGIC = b"NVF1"
HEADER = struct.Struct("<4sHHi")
TX_FIELD, RX_FIELD = 138, 139
ALL_LINKS = 0xFFFFFFFF  # the scope id of a counter that sums all links
NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED
_STRUCT_BYTES, _HOST_BYTES = 40, 8
# nvmlValueType_t -> how the 8-byte union is read: double, u32, unsigned long, u64, i64, i32, u16.
_VALUE_TYPES = {0: "<f8", 1: "<u4", 2: "<u8", 3: "<u8", 4: "<i8", 5: "<i4", 6: "<u2"}
_GPU_IN_NAME = re.compile(r"gpu[_-]?(\d+)", re.IGNORECASE)
_TX_RX = pa.array(["tx", "rx"])
# 3 MB of records: fields are picked out one after another, much faster while the records are in the cache.
_CHUNK_RECORDS = 1 << 16


class Nvf1:
    """NVML NVLink counters in binary."""

    name = "nvf1"
    priority = 10
    summary = "NVML counter file (*.bin): magic NVF1"
    tables = ("nvlink_samples", "gpus")

    def sniff(self, source: Source) -> bool:
        """Recognise the magic; an empty or cut `nvlink_trace*.bin` is ours too, to be refused with a reason."""
        if source.is_dir:
            return False
        return source.head[:4] == MAGIC or re.match(r"nvlink_trace.*\.bin$", source.path.name) is not None

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Yield samples in file order, then one `gpus` row."""
        gpu = gpu_index(reading.source.name)
        size = reading.source.path.stat().st_size
        series = _SeriesState()
        failed: dict[int, int] = {}
        seen = 0
        with reading.source.path.open("rb") as file:
            stride = _read_header(reading.source, file.read(HEADER.size))
            dtype = _record_dtype(stride)
            buffer = bytearray(stride * _CHUNK_RECORDS)
            while read := _fill(file, buffer):
                records = np.frombuffer(buffer, dtype, count=read // stride)
                if rest := read % stride:
                    seen += 1
                    reading.skip(
                        "nvlink_samples", "cut_last_record", 1, severity="data_loss",
                        remedy=f"The file ends {rest} bytes into a record: stop the poller with SIGTERM, not SIGKILL.",
                    )  # fmt: skip
                seen += len(records)
                good = _good_records(reading, records, failed)
                if len(good):
                    yield _samples(reading, good, gpu, series)
        reading.saw("nvlink_samples", seen)
        if size == HEADER.size:
            reading.note(
                "nvlink_samples", "no_record", 1, severity="error", remedy="The poller wrote no sample."
            )
        reading.saw("gpus", 1)
        yield batch("gpus", {"gpu_index": [gpu], "nvlink_count": [_nvlink_count(series.links, failed, seen)]})


def gpu_index(name: str) -> int:
    """Return the GPU that a counter file's name stands for: `nvlink_trace.bin` is GPU 0.

    >>> gpu_index("run/nvlink_trace_gpu3.bin"), gpu_index("nvlink_trace.bin")
    (3, 0)
    """
    found = _GPU_IN_NAME.search(name.rsplit("/", 1)[-1])
    return int(found.group(1)) if found else 0


def _read_header(source: Source, head: bytes) -> int:
    """Check the header and return the stride of a record in bytes."""
    if not head:
        raise FormatError(
            source.name, "the file is empty.", "the poller never started; record the trace anew."
        )
    if len(head) < HEADER.size:
        raise FormatError(
            source.name, f"{len(head)} bytes, shorter than the 12-byte NVF1 header.", "upload it anew."
        )
    magic, version, struct_bytes, host_bytes = HEADER.unpack(head)
    if magic != MAGIC:
        raise FormatError(
            source.name, f"byte 0: magic is {magic!r}, not {MAGIC!r}.", "is it a counter file at all?"
        )
    if version != 1:
        raise FormatError(
            source.name, f"byte 4: NVF1 version {version}; only 1 is known.", "update tracelake."
        )
    if struct_bytes < _STRUCT_BYTES or struct_bytes > 4096 or host_bytes != _HOST_BYTES:
        raise FormatError(
            source.name,
            f"byte 6: records of {struct_bytes} + {host_bytes} bytes; expected at least {_STRUCT_BYTES} + {_HOST_BYTES}.",
            "the header is damaged or the writer's nvml.h is unknown.",
        )
    return int(struct_bytes + host_bytes)


def _fill(file: BufferedReader, buffer: bytearray) -> int:
    """Read until ``buffer`` is full or the file ends; return the bytes read. No batch keeps a view of it."""
    view, done = memoryview(buffer), 0
    while done < len(buffer) and (read := file.readinto(view[done:])):
        done += read
    return done


def _record_dtype(stride: int) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": ["host", "field", "scope", "time_us", "latency", "type", "ret", "value"],
            "formats": ["<u8", "<u4", "<u4", "<i8", "<i8", "<u4", "<u4", "V8"],
            "offsets": [0, 8, 12, 16, 24, 32, 36, 40],
            "itemsize": stride,
        }
    )


def _good_records(
    reading: Reading, records: np.ndarray[Any, Any], failed: dict[int, int]
) -> np.ndarray[Any, Any]:
    """Leave out failed reads, other fields and unreadable values, each counted."""
    good = records["ret"] == 0
    if not good.all():
        for code, count in zip(*np.unique(records["ret"][~good], return_counts=True), strict=True):
            failed[int(code)] = failed.get(int(code), 0) + int(count)
            reading.skip(
                "nvlink_samples", f"nvml_error_{code}", int(count),
                severity="info" if code == NOT_SUPPORTED else "data_loss",
                remedy="NVML: not supported, no NVLink on this GPU." if code == NOT_SUPPORTED
                else "NVML could not read the counter (nvmlReturn_t); see nvmlErrorString.",
            )  # fmt: skip
    counter = (records["field"] == TX_FIELD) | (records["field"] == RX_FIELD)
    other = int(np.count_nonzero(good & ~counter))
    reading.skip(
        "nvlink_samples",
        "other_field",
        other,
        severity="info",
        remedy="Not an NVLink payload counter (138, 139).",
    )
    kinds = _value_types(records)
    readable = (
        np.isin(records["type"], list(_VALUE_TYPES))
        if len(kinds) > 1
        else np.bool_(kinds <= _VALUE_TYPES.keys())
    )
    good &= counter
    reading.skip(
        "nvlink_samples", "unknown_value_type", int(np.count_nonzero(good & ~readable)),
        severity="data_loss", remedy="The value's nvmlValueType_t is unknown; the file may be damaged.",
    )  # fmt: skip
    good &= readable
    return records if good.all() else records[good]


def _value_types(records: np.ndarray[Any, Any]) -> set[int]:
    """Return the value types of the records: one, as a rule, which is quick to see."""
    types = records["type"]
    first = types[:1]
    return set((first if (types == first).all() else np.unique(types)).tolist())


def _values(records: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Read the value union by its type, as int64 (KiB counters stay far below 2^63)."""
    types = _value_types(records)
    raw = np.ascontiguousarray(records["value"]).view(np.uint8).reshape(-1, 8)
    if len(types) == 1:
        return _read_union(raw, types.pop())
    values: np.ndarray[Any, Any] = np.empty(len(records), np.int64)
    for kind in types:
        rows = records["type"] == kind
        values[rows] = _read_union(np.ascontiguousarray(raw[rows]), kind)
    return values


def _read_union(raw: np.ndarray[Any, Any], kind: int) -> np.ndarray[Any, Any]:
    spec = np.dtype(_VALUE_TYPES[kind])
    values = np.ascontiguousarray(raw[:, : spec.itemsize]).view(spec).reshape(-1)
    return values.astype(np.int64)


def _samples(reading: Reading, good: np.ndarray[Any, Any], gpu: int, series: _SeriesState) -> Batch:
    counters = _values(good)
    scopes: np.ndarray[Any, Any] = good["scope"].astype(np.int64)
    direction = (good["field"] == RX_FIELD).astype(np.int8)
    times: np.ndarray[Any, Any] = good["time_us"] * 1000
    # The summed counter's key is 0 or 1, link 0 has 2 and 3: small numbers, which sort in linear time.
    series.count(reading, ((scopes + 1) & ALL_LINKS) * 2 + direction, times, counters)
    summed = scopes == ALL_LINKS
    return batch(
        "nvlink_samples",
        {
            "gpu_index": np.full(len(good), gpu, np.int32),
            "link_id": pa.array(np.where(summed, 0, scopes).astype(np.int32), mask=summed),
            "direction": pa.DictionaryArray.from_arrays(pa.array(direction), _TX_RX).cast(pa.string()),
            "sampled_ns": times,
            "host_ns": good["host"].astype(np.int64),
            "latency_us": good["latency"].astype(np.int64),
            "counter_kib": counters,
        },
    )


class _SeriesState:
    """Counts resets, repeated and backward times of each series over chunks, without keeping rows."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}

    @property
    def links(self) -> int:
        """How many links were read one by one."""
        return len({key // 2 for key in self._last} - {0})

    def count(
        self,
        reading: Reading,
        keys: np.ndarray[Any, Any],
        times: np.ndarray[Any, Any],
        counters: np.ndarray[Any, Any],
    ) -> None:
        resets = repeats = backward = 0
        firsts, lasts, before, after = _neighbours(keys)
        known = [i for i in firsts.tolist() if int(keys[i]) in self._last]
        past = np.array([self._last[int(keys[i])] for i in known], np.int64).reshape(-1, 2)
        for old_times, new_times, old_counters, new_counters in (
            (past[:, 0], times[known], past[:, 1], counters[known]),
            (times[before], times[after], counters[before], counters[after]),
        ):
            step = new_times - old_times
            resets += int(np.count_nonzero((new_counters < old_counters) & (step > 0)))
            repeats += int(np.count_nonzero(step == 0))
            backward += int(np.count_nonzero(step < 0))
        for i in lasts.tolist():
            self._last[int(keys[i])] = (int(times[i]), int(counters[i]))
        reading.note(
            "nvlink_samples", "counter_reset", resets, severity="error",
            remedy="The counter fell (driver reload or reset): that interval has no bytes.",
        )  # fmt: skip
        reading.note(
            "nvlink_samples", "zero_length_interval", repeats,
            remedy="Two reads carry one NVML time: the last one counts.",
        )  # fmt: skip
        reading.note(
            "nvlink_samples", "time_runs_backward", backward, severity="error",
            remedy="Reads are put in order by NVML's time; was the wall clock stepped?",
        )  # fmt: skip


def _neighbours(keys: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Any, Any]:
    """Return each series' first and last row, and the rows of all pairs of consecutive reads of one series.

    The pairs are two indices into ``keys``: slices where a poller read the same series in turn, all the time.
    """
    rows = len(keys)
    again = np.flatnonzero(keys == keys[0])[1:2]
    width = int(again[0]) if len(again) else rows
    if np.array_equal(keys[width:], keys[: rows - width]) and len(set(keys[:width].tolist())) == width:
        everywhere = np.arange(rows)
        return everywhere[:width], everywhere[rows - width :], slice(0, rows - width), slice(width, rows)
    small = keys.astype(np.uint16) if int(keys.max()) < 1 << 16 else keys
    order = np.argsort(small, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    return order[np.append(True, ~same)], order[np.append(~same, True)], order[:-1][same], order[1:][same]


def _nvlink_count(links: int, failed: dict[int, int], seen: int) -> int | None:
    """Links in use: known when links were read one by one, or when NVML denies NVLink at every read."""
    if links:
        return links
    # NVML says NOT_SUPPORTED to NVLink fields only where no NVLink is there: none is a fact, not a gap.
    return 0 if seen and failed.get(NOT_SUPPORTED) == seen else None
