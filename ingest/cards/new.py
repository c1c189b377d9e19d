"""Write a new card, and check the cards of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from ingest.cards.load import FIELDS, Card, load_card, parse_card
from ingest.errors import CardError

if TYPE_CHECKING:
    from pathlib import Path

# The fields that new_card takes beside the columns of raw.traces.
MORE = {
    "contact": "contact",
    "bandwidth_gbps": "workload.hardware.network_topo.bandwidth_gbps",
    "protocols": "Model-executor.protocol_selection",
    "traces": "metric_source.traces",
    "metrics_specific_trace": "metric_source.metrics_specific_trace",
    "framework_version": "Model-executor.framework.version",
    "epochs": "workload.model.epochs",
    "iteration": "workload.model.iteration",
}
PATHS = {**FIELDS, **MORE}
_ORDER = (
    "description", "hf_url", "trace_url", "contributor", "contact",
    "phase", "moe", "granularity", "model_family", "precision", "epochs", "iteration",
    "batch_size", "seq_len", "input_len", "output_len", "dataset",
    "topology", "bandwidth_gbps", "xpu_type", "gpu_model", "gpu_count", "gpus_per_node", "driver_version",
    "framework", "framework_version", "compiler",
    "dp_replicate", "dp_shard", "tp", "pp", "cp", "ep", "pp_mb",
    "comm_library", "comm_library_version", "protocols",
    "traces", "metrics_specific_trace",
)  # fmt: skip
_LISTS = {"bandwidth_gbps", "protocols", "traces", "metrics_specific_trace"}


@dataclass(frozen=True, slots=True)
class CheckedCard:
    """What a check found: the card, or the error that refuses it."""

    path: Path
    card: Card | None
    error: CardError | None


def new_card(**fields: Any) -> str:
    """Return the YAML text of a valid card.

    ``fields`` are the card columns of ``raw.traces`` (phase, model_family, tp, gpu_model …) and contact,
    bandwidth_gbps, protocols, traces, metrics_specific_trace, framework_version, epochs, iteration; phase and
    model_family are required, what is left out stays empty. Raises :class:`CardError` for a value that the
    schema refuses and ``TypeError`` for an unknown field.

    >>> "phase: inference" in new_card(phase="Serving", model_family="Qwen/Qwen3-32B", tp="4")
    True
    """
    if unknown := sorted(set(fields) - set(PATHS)):
        raise TypeError(f"a card has no field {unknown[0]!r}; known: {', '.join(_ORDER)}")
    document: dict[str, Any] = {"version": 1}
    for name in _ORDER:
        *folders, leaf = PATHS[name].split(".")
        holder = document
        for folder in folders:
            holder = holder.setdefault(folder, {})
        value = fields.get(name)
        holder[leaf] = list(value or []) if name in _LISTS and not isinstance(value, str) else value
    normalised = parse_card(_dump(document), "the new card").document
    return _dump(normalised)


def check_folder(path: Path) -> list[CheckedCard]:
    """Check every ``*.yml`` and ``*.yaml`` below ``path``, or the one file; in the order of their names."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".yml", ".yaml") and p.is_file())
    else:
        files = [path]
    checked = []
    for file in files:
        try:
            checked.append(CheckedCard(file, load_card(file), None))
        except CardError as exc:
            checked.append(CheckedCard(file, None, exc))
    return checked


class _Dumper(yaml.SafeDumper):
    """Null is an empty field, a long text a folded block."""


def _null(dumper: yaml.SafeDumper, _: None) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


def _str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=">" if len(text) > 80 and " " in text else None
    )


_Dumper.add_representer(type(None), _null)
_Dumper.add_representer(str, _str)


def _dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
