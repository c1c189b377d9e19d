"""Load a card: read, normalise, judge; the columns of ``raw.traces`` that come from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.cards.normalise import Normalisation, normalise
from ingest.cards.schema import Problem, problems
from ingest.cards.text import MAX_BYTES, read_yaml
from ingest.credentials import redact, redact_tree
from ingest.errors import CardError

if TYPE_CHECKING:
    from pathlib import Path

# column of raw.traces -> path in the card
FIELDS = {
    "phase": "workload.model.phase",
    "model_family": "workload.model.model_family",
    "moe": "workload.model.moe",
    "precision": "workload.model.precision",
    "granularity": "workload.model.granularity",
    "batch_size": "workload.data.batch_size",
    "seq_len": "workload.data.seq_len",
    "input_len": "workload.data.input_len",
    "output_len": "workload.data.output_len",
    "dataset": "workload.data.dataset",
    "framework": "Model-executor.framework.name",
    "compiler": "Model-executor.framework.compiler_tool_selection",
    "tp": "Model-executor.model_plan_parallelization.tp",
    "pp": "Model-executor.model_plan_parallelization.pp",
    "dp_replicate": "Model-executor.model_plan_parallelization.dp_replicate",
    "dp_shard": "Model-executor.model_plan_parallelization.dp_shard",
    "cp": "Model-executor.model_plan_parallelization.cp",
    "ep": "Model-executor.model_plan_parallelization.ep",
    "pp_mb": "Model-executor.model_plan_parallelization.pp_mb",
    "xpu_type": "workload.hardware.xpu_spec.type",
    "gpu_model": "workload.hardware.xpu_spec.model",
    "gpu_count": "workload.hardware.xpu_spec.total_count",
    "gpus_per_node": "workload.hardware.xpu_spec.count_per_node",
    "driver_version": "workload.hardware.driver_version",
    "topology": "workload.hardware.network_topo.topology",
    "comm_library": "Model-executor.communication_library.name",
    "comm_library_version": "Model-executor.communication_library.version",
    "contributor": "contributor",
    "description": "description",
    "hf_url": "hf_url",
    "trace_url": "trace_url",
}
# Variables of the machine and its user, not of the communication library.
_PERSONAL_ENV = re.compile(
    r"HOST(NAME)?|USER(NAME)?|LOGNAME|HOME|MAIL|(OLD)?PWD|PATH|SSH_\w+|SUDO_\w+|SLURM_JOB_USER|_"
)
# A memory size or form factor after the model's name: a100-40gb, h100-sxm.
_GPU_SUFFIX = re.compile(r"-(\d+gb|sxm\d*|pcie|nvl|hbm\d\w*)(?=-|$)")


@dataclass(frozen=True, slots=True)
class Card:
    """A workload card that passed.

    ``fields`` holds the columns of ``raw.traces`` that come from the card; ``document`` the normalised card,
    plain values only; ``normalisations`` what was changed on the way; ``where`` names the file.
    """

    fields: dict[str, Any]
    document: dict[str, Any]
    normalisations: list[Normalisation]
    where: str


def load_card(path: Path) -> Card:
    """Load the card at ``path``; :class:`CardError` says file, path, problem and remedy."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise CardError(path, f"cannot be read: {exc.strerror}.", "check its permissions.") from exc
    return parse_card(data, str(path))


def parse_card(data: bytes | str, where: str) -> Card:
    """Parse a card's text; ``where`` names it in errors."""
    raw = read_yaml(data.encode() if isinstance(data, str) else data, where)
    if not isinstance(raw, dict):
        what = "the card is empty." if raw is None else "not a mapping of fields."
        raise CardError(where, what, "`tracelake card new` writes a whole card.")
    document, changes, unclear = normalise(raw)
    wrong = unclear or problems(document)
    if wrong:
        raise card_error(where, wrong)
    # The lake keeps the card: what looks like a credential, or tells of the machine's user, stays outside.
    document = redact_tree(document)
    library = (document.get("Model-executor") or {}).get("communication_library") or {}
    for name in [n for n in library.get("env") or {} if _PERSONAL_ENV.fullmatch(n)]:
        del library["env"][name]
    return Card(_fields(document), document, changes, where)


def card_error(where: str, wrong: list[Problem]) -> CardError:
    """Return one error for all that is wrong; the hint is the first problem's."""
    # What is wrong is shown, but for what may be a credential.
    wrong = [Problem(p.path, redact(p.what), p.remedy) for p in wrong]
    lines = [f"{p.path}: {p.what}" if p.path else p.what for p in wrong[:10]]
    if len(wrong) > 10:
        lines.append(f"and {len(wrong) - 10} more.")
    problems = [(p.path, p.what, p.remedy) for p in wrong]
    return CardError(where, "\n  ".join(lines), wrong[0].remedy, problems=problems)


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    fields = {column: _get(document, path) for column, path in FIELDS.items()}
    if fields["gpu_model"] is not None:
        fields["gpu_model"] = _GPU_SUFFIX.sub("", fields["gpu_model"])
    return fields


def _get(document: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document
