"""Bring what is clear in a card into one form, and say what was changed.

Three passes: fields to their place (spelling of keys, ``Model-executor`` under ``workload``, a flattened
``model_arch``), values to the type that the schema names (quotes, one-element lists, nothing-words), and
names to one spelling (libraries, models, precisions, accelerators). What stays unclear is left as it is, for
the schema to refuse.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ingest.cards.schema import Problem, card_schema
from ingest.cards.spelling import NAMES
from ingest.cards.text import PlainNumber

# What people write into a field that they cannot fill.
_NOTHING = {"", "n/a", "na", "tbd", "todo", "unknown", "unspecified", "not applicable", "?", "-"}
_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}
_INTEGER, _NUMBER = re.compile(r"[-+]?\d{1,18}"), re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_MOVES = (
    (("workload", "Model-executor"), ("Model-executor",)),
    (("workload", "metric_source"), ("metric_source",)),
)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """One change: the field's path, what stood there, what stands there now, and why."""

    path: str
    before: Any
    after: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {_brief(self.before)} → {_brief(self.after)} ({self.reason})"


def normalise(raw: dict[str, Any]) -> tuple[dict[str, Any], list[Normalisation], list[Problem]]:
    """Return the card in its one form, what was changed, and contradictions that no rule can settle."""
    work = _Pass()
    schema = card_schema()
    document = work.keys(raw, schema, "")
    work.move(document)
    document = work.values(document, schema, "")
    work.names(document)
    return document, work.changes, work.unclear


class _Pass:
    def __init__(self) -> None:
        self.changes: list[Normalisation] = []
        self.unclear: list[Problem] = []

    def _changed(self, path: str, before: Any, after: Any, reason: str) -> Any:
        self.changes.append(Normalisation(path, _plain(before), _plain(after), reason))
        return after

    # -- keys

    def keys(self, value: Any, schema: dict[str, Any], path: str) -> Any:
        """Spell the keys as the schema does: case, `-`, `_` and blanks do not matter."""
        properties = schema.get("properties")
        if not isinstance(value, dict) or properties is None:
            return value
        known: dict[str, str] = {_squash(k): k for k in properties}
        if path == "workload":
            known |= {_squash(moved[0][-1]): moved[0][-1] for moved in _MOVES}
        result: dict[str, Any] = {}
        for key, inner in value.items():
            name: str = known.get(_squash(key)) or key
            if name in result:
                self.unclear.append(
                    Problem(_join(path, name), "is there twice, in two spellings.", "keep one.")
                )
                continue
            if name != key:
                self._changed(_join(path, key), key, name, "spelling of the field")
            below = properties.get(name) or card_schema()["properties"].get(name, {})
            result[name] = self.keys(inner, below, _join(path, name))
        return result

    def move(self, document: dict[str, Any]) -> None:
        """Put sections and the fields of a flattened model_arch where they belong."""
        for source, target in _MOVES:
            workload = document.get(source[0])
            if isinstance(workload, dict) and source[1] in workload:
                self._move(document, workload, source[1], document, ".".join(source), ".".join(target))
        workload = document.get("workload")
        model = workload.get("model") if isinstance(workload, dict) else None
        if not isinstance(model, dict):
            return
        arch_fields = card_schema()["properties"]["workload"]["properties"]["model"]["properties"][
            "model_arch"
        ]
        flat = [k for k in model if k in arch_fields["properties"]]
        if not flat:
            return
        arch = model.get("model_arch")
        if arch is None:
            arch = model["model_arch"] = {}
        if isinstance(arch, dict):
            for key in flat:
                self._move(
                    document, model, key, arch, f"workload.model.{key}", f"workload.model.model_arch.{key}"
                )

    def _move(
        self,
        document: dict[str, Any],
        source: dict[str, Any],
        key: str,
        target: dict[str, Any],
        old: str,
        new: str,
    ) -> None:
        if target.get(key) is not None and target[key] != source[key]:
            self.unclear.append(Problem(old, f"is there and at {new}, with other values.", "keep one."))
            return
        target[key] = source.pop(key)
        self._changed(new, old, new, "the field belongs here")

    # -- values

    def values(self, value: Any, schema: dict[str, Any], path: str) -> Any:
        """Bring values to the types of the schema where that is clear."""
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "object" in kinds:
            return self._object(value, schema, path, kinds)
        if "array" in kinds:
            return self._array(value, schema, path)
        if not kinds:
            return _plain(value)
        return self._scalar(value, kinds, path)

    def _object(self, value: Any, schema: dict[str, Any], path: str, kinds: list[str]) -> Any:
        if value is None and "null" not in kinds:
            return {}  # a section that was left empty
        if not isinstance(value, dict):
            return _plain(value)
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        result = {}
        for key, inner in value.items():
            below = properties.get(key) or (rest if isinstance(rest, dict) else {})
            result[key] = self.values(inner, below, _join(path, key))
        return result

    def _array(self, value: Any, schema: dict[str, Any], path: str) -> Any:
        if value is None or _is_nothing(value):
            if value not in (None, ""):
                self._changed(path, value, [], "empty")
            return []
        if not isinstance(value, (list, dict)):
            value = self._changed(path, value, [value], "one value stands for a list of one")
        if not isinstance(value, list):
            return _plain(value)
        items = schema["items"]
        result = [self.values(v, items, f"{path}.{i}") for i, v in enumerate(value)]
        # In bandwidth_gbps the position says which network: nulls stay there.
        return result if "null" in items["type"] else [v for v in result if v is not None]

    def _scalar(self, value: Any, kinds: list[str], path: str) -> Any:
        while isinstance(value, list) and len(value) == 1:
            value = self._changed(path, value, value[0], "a list of one")
        if isinstance(value, str):
            stripped = value.strip()
            if _is_nothing(stripped) and ("null" in kinds or path.rsplit(".", 1)[-1].isdigit()):
                return self._changed(path, value, None, "empty") if stripped else None
            value = stripped
            if "string" not in kinds:
                return self._from_text(value, kinds, path)
        elif "string" in kinds and isinstance(value, (PlainNumber, int)) and not isinstance(value, bool):
            text = value.text if isinstance(value, PlainNumber) else str(value)
            return self._changed(path, value, text, "a text, not a number")
        elif "integer" in kinds and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return self._changed(path, value, int(value), "a whole number")
        return _plain(value)

    def _from_text(self, text: str, kinds: list[str], path: str) -> Any:
        lower = text.lower()
        if "boolean" in kinds and lower in _TRUE | _FALSE:
            return self._changed(path, text, lower in _TRUE, "true or false")
        if ("integer" in kinds or "number" in kinds) and _INTEGER.fullmatch(text):
            return self._changed(path, text, int(text), "a number in quotes")
        if "number" in kinds and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return self._changed(path, text, float(text), "a number in quotes")
        return text

    # -- names

    def names(self, document: dict[str, Any]) -> None:
        """Spell names of models, libraries, precisions and accelerators in one way."""
        for path, spell in NAMES.items():
            *folders, leaf = path.split(".")
            holder: Any = document
            for folder in folders:
                holder = holder.get(folder) if isinstance(holder, dict) else None
            if not isinstance(holder, dict):
                continue
            value = holder.get(leaf)
            if isinstance(value, list):
                holder[leaf] = [self._spell(f"{path}.{i}", v, spell) for i, v in enumerate(value)]
            elif isinstance(value, str):
                holder[leaf] = self._spell(path, value, spell)
        self._framework_version(document)

    def _spell(self, path: str, value: Any, spell: Any) -> Any:
        if not isinstance(value, str):
            return value
        after = spell(value)
        return value if after == value else self._changed(path, value, after, "one spelling")

    def _framework_version(self, document: dict[str, Any]) -> None:
        """`torchtitan-0.1.0` is torchtitan, version 0.1.0."""
        executor = document.get("Model-executor")
        framework = executor.get("framework") if isinstance(executor, dict) else None
        if not isinstance(framework, dict) or not isinstance(framework.get("name"), str):
            return
        found = re.fullmatch(r"([a-z][a-z-]*[a-z])[-=_ ]+v?(\d+(\.\w+)+(\+\w+)?)", framework["name"])
        if found and framework.get("version") in (None, found.group(2)):
            before = framework["name"]
            framework["name"], framework["version"] = found.group(1), found.group(2)
            self._changed(
                "Model-executor.framework.name", before, found.group(1), "its version has a field of its own"
            )


def _squash(key: str) -> str:
    return re.sub(r"[-_ ]", "", key).lower()


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_nothing(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in _NOTHING


def _plain(value: Any) -> Any:
    """Turn values into those that JSON holds."""
    if isinstance(value, PlainNumber):
        return float(value) if math.isfinite(value) else value.text
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def _brief(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
