"""Judge a normalised card by ``schemas/card.schema.json`` and say what is wrong in plain words."""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.resources import resource

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_TYPE_WORDS = {
    "integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false",
    "array": "a list", "object": "a mapping",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a card: where, what, and the remedy."""

    path: str
    what: str
    remedy: str


@functools.cache
def card_schema() -> dict[str, Any]:
    """Return the JSON Schema of a normalised card."""
    schema: dict[str, Any] = json.loads(
        (resource("schemas") / "card.schema.json").read_text(encoding="utf-8")
    )
    return schema


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(card_schema())


def problems(document: Any) -> list[Problem]:
    """Return what the schema holds against ``document``, in the order of the card's fields."""
    errors = sorted(_validator().iter_errors(document), key=lambda e: [str(p) for p in e.absolute_path])
    return [_explain(e) for e in errors]


def _explain(error: Any) -> Problem:
    path = ".".join(str(p) for p in error.absolute_path)
    rule, schema = str(error.validator), dict(error.schema) if isinstance(error.schema, dict) else {}
    limit: Any = error.validator_value
    value = shown(error.instance)
    description = schema.get("description", "")
    hint = f"the field is: {description}" if description else "see `tracelake card new`."
    if rule == "required":
        missing = next(name for name in limit if name not in error.instance)
        where = f"{path}.{missing}" if path else missing
        return Problem(where, "is missing.", "add it; `tracelake card new` writes a whole card.")
    if rule == "additionalProperties" and limit is False:
        known = list(schema["properties"])
        unknown = next(k for k in error.instance if k not in known)
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}."
        return Problem(
            f"{path}.{shown_key(unknown)}" if path else shown_key(unknown), "is no field of a card.", hint
        )
    if rule == "enum":
        known = [str(v) for v in limit if v is not None]
        return Problem(path, f"{value} is not one of {', '.join(known)}.", "write one of these.")
    if rule == "type":
        kinds = [limit] if isinstance(limit, str) else limit
        words = " or ".join(_TYPE_WORDS[k] for k in kinds if k != "null")
        if isinstance(error.instance, list) and len(error.instance) > 1:
            hint = "a trace is one experiment: name its one value, or leave the field empty."
        elif "null" in kinds:
            hint = "leave it empty if it is unknown."
        return Problem(path, f"{value} is not {words}.", hint)
    if rule == "const":
        return Problem(path, f"{value} is not {limit}.", "only this version is known.")
    if rule in ("minimum", "maximum", "exclusiveMinimum"):
        word = {"minimum": "below", "maximum": "above", "exclusiveMinimum": "not above"}[rule]
        return Problem(path, f"{value} is {word} {limit}.", "leave it empty if it is unknown.")
    if rule == "not":
        return Problem(path, f"{value} looks like a credential.", "take it out of the card.")
    if rule == "maxLength":
        return Problem(path, f"a text of {len(error.instance)} characters; at most {limit}.", "shorten it.")
    if rule in ("maxItems", "maxProperties"):
        return Problem(path, f"{len(error.instance)} entries; at most {limit}.", "shorten it.")
    return Problem(path, f"{value} is not in the form expected.", hint)


def shown(value: Any) -> str:
    """Return a value cut to a line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def shown_key(key: str) -> str:
    """Return a key cut to a word, quoted where it is an odd one."""
    return key if key.isidentifier() and len(key) <= 60 else shown(key)
