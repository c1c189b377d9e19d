"""What can be found out about the machine: ``experiment_metadata.json`` and the card."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from ingest import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.record.nvml import Gpu


def nccl_version() -> str | None:
    """Return NCCL's version: of this Python's wheel, else of the system's library."""
    for name in ("nvidia-nccl-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu11"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        library = ctypes.CDLL("libnccl.so.2")
    except OSError:
        return None
    code = ctypes.c_int()
    if library.ncclGetVersion(ctypes.byref(code)):
        return None
    number = code.value
    # major × 10000 + minor × 100 + patch since 2.9, × 1000 before: nccl.h, NCCL_VERSION
    base = 10_000 if number >= 10_000 else 1000
    return f"{number // base}.{number % base // 100}.{number % 100}"


def write_metadata(out: Path, gpus: list[Gpu], driver: str, fields: dict[str, Any]) -> None:
    """Write ``experiment_metadata.json``; no environment, no command line: they may hold secrets."""
    path = out / "experiment_metadata.json"
    if path.exists():  # the command knows better
        return
    content = {
        "backend": fields.get("framework"),
        "tensor_parallel_size": fields.get("tp"),
        "batch_size": fields.get("batch_size"),
        "driver_version": driver,
        "nccl_version": nccl_version(),
        "gpus": [
            {
                "index": g.index, "name": g.name, "uuid": g.uuid, "nvlinks": len(g.links),
                "nvlink_version": g.nvlink_version,
            }
            for g in gpus
        ],
        "recorded_by": f"tracelake {__version__}",
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_card(
    out: Path, gpus: list[Gpu], driver: str, card: Path | None, fields: dict[str, Any], *, nsys: bool
) -> None:
    """Copy ``card``, or write one with the flags' fields and what NVML says."""
    target = out / f"{out.resolve().name}.yaml"
    if card is not None:
        shutil.copyfile(card, target)
        return
    from ingest.cards import new_card

    found: dict[str, Any] = {
        "phase": "inference",
        "model_family": "unknown",
        "description": f"Recorded by tracelake {__version__}.",
        "xpu_type": "GPU",
        "gpu_model": gpu_model(gpus[0].name),
        "gpu_count": len(gpus),
        "gpus_per_node": len(gpus),
        "driver_version": driver,
        "traces": ["nsys", "nvml"] if nsys else ["nvml"],
    }
    if version := nccl_version():
        found |= {"comm_library": "NCCL", "comm_library_version": version}
    given = {name: value for name, value in fields.items() if value is not None}
    target.write_text(new_card(**{**found, **given}), encoding="utf-8")


def gpu_model(name: str) -> str:
    """Return the card's spelling of a GPU's name.

    >>> gpu_model("NVIDIA H100 80GB HBM3"), gpu_model("NVIDIA A100-SXM4"), gpu_model("Tesla V100-SXM2")
    ('nvidia_h100', 'nvidia_a100', 'nvidia_v100')
    """
    found = re.search(r"\b((?:GB|GH|[ABHVLT])\d{1,3}S?)\b", name)
    if found:
        return f"nvidia_{found.group(1).lower()}"
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
