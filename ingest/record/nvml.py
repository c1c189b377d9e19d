"""NVML as the recorder needs it: the GPUs, what they are, and one batched counter read without allocation.

The structs and the start-up are nvidia-ml-py's; the hot call goes straight to the library with an array that
is built once, since ``pynvml.nvmlDeviceGetFieldValues`` builds a new one each time.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ingest.errors import TracelakeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

Links = Literal["all", "total", "auto"]
TX_FIELD, RX_FIELD = 138, 139  # NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX/RX: payload KiB
SUMMED = 0xFFFFFFFF  # scope id: all links in one counter
MOST_LINKS = 18  # of H100 and H200; what `all` reads on a GPU that names no link
NOT_SUPPORTED = 3


class NvmlError(TracelakeError):
    """NVML is missing or refuses."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU by NVML's index."""

    index: int
    handle: Any
    name: str
    uuid: str
    links: tuple[int, ...]  # links whose counters can be read
    nvlink_version: int | None


@contextmanager
def nvml() -> Iterator[Any]:
    """Start NVML and yield the pynvml module; raises :class:`NvmlError` where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as exc:
        raise NvmlError(
            "NVML", f"cannot be started: {exc}.",
            "recording needs an NVIDIA GPU and its driver (libnvidia-ml.so.1); `nvidia-smi` must work. "
            "For a trace without a GPU: `tracelake simulate`.",
        ) from exc  # fmt: skip
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def find_gpus(pynvml: Any, wanted: list[int] | None) -> list[Gpu]:
    """Return the GPUs of NVML's indices ``wanted``, or all."""
    count = pynvml.nvmlDeviceGetCount()
    indices = list(range(count)) if wanted is None else wanted
    for index in indices:
        if not 0 <= index < count:
            raise UsageError("--gpus", f"there is no GPU {index}; NVML knows {count} (0 to {count - 1}).")
    if not indices:
        raise NvmlError("NVML", "knows no GPU.", "is the GPU visible to this container?")
    return [_gpu(pynvml, index) for index in indices]


def driver_version(pynvml: Any) -> str:
    """Return the driver's version."""
    return str(pynvml.nvmlSystemGetDriverVersion())


def _gpu(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    reader = FieldReader(pynvml, handle, range(pynvml.NVML_NVLINK_MAX_LINKS))
    reader.read()
    links = tuple(v.scopeId for v in reader.values if v.fieldId == TX_FIELD and v.nvmlReturn == 0)
    version: int | None
    try:
        version = pynvml.nvmlDeviceGetNvLinkVersion(handle, links[0]) if links else None
    except pynvml.NVMLError:
        version = None
    name, uuid = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)
    return Gpu(index, handle, name, uuid.removeprefix("GPU-"), links, version)


class FieldReader:
    """Reads TX and RX of the given scopes in one call, into one array of ``nvmlFieldValue_t``."""

    def __init__(self, pynvml: Any, handle: Any, scopes: range | tuple[int, ...]) -> None:
        self._handle = handle
        self._function = pynvml.nvmlLib.nvmlDeviceGetFieldValues
        pairs = [(field, scope) for scope in scopes for field in (TX_FIELD, RX_FIELD)]
        self.values = (pynvml.c_nvmlFieldValue_t * len(pairs))()
        for value, (field, scope) in zip(self.values, pairs, strict=True):
            value.fieldId, value.scopeId = field, scope

    def read(self) -> int:
        """Read; return the call's nvmlReturn_t. A failed call fails each field likewise."""
        code = int(self._function(self._handle, len(self.values), self.values))
        if code:
            for value in self.values:
                value.nvmlReturn, value.value.ullVal = code, 0
        return code

    def median_ms(self, reads: int = 25) -> float:
        """Return the median time of a read."""
        times = []
        for _ in range(reads):
            begun = time.perf_counter_ns()
            self.read()
            times.append(time.perf_counter_ns() - begun)
        return sorted(times)[len(times) // 2] / 1e6


@dataclass(frozen=True, slots=True)
class Choice:
    """The scopes that are read and why."""

    scopes: tuple[int, ...]
    links: Literal["all", "total"]
    reason: str


def choose_scopes(pynvml: Any, gpu: Gpu, links: Links, interval_ms: float) -> Choice:
    """Return what to read: for ``auto`` each link if a read then keeps the interval with a fifth to spare."""
    each = gpu.links or tuple(range(MOST_LINKS))
    if links == "all":
        return Choice(each, "all", f"asked for: {len(each)} links one by one")
    if links == "total":
        return Choice((SUMMED,), "total", "asked for: all links in one counter")
    if not gpu.links:
        return Choice((SUMMED,), "total", "no link answers")
    if FieldReader(pynvml, gpu.handle, (SUMMED,)).read() == 0:
        took = FieldReader(pynvml, gpu.handle, each).median_ms()
        said = f"reading {len(each)} links takes {took:.3f} ms of an interval of {interval_ms:g} ms"
        return Choice(each, "all", said) if took <= 0.8 * interval_ms else Choice((SUMMED,), "total", said)
    return Choice(each, "all", "the summed counter cannot be read")
