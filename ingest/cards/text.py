"""Read YAML that comes from someone else's machine.

The events of the parser are taken one by one and built into plain values here, so that nothing is executed
and nothing grows: tags are refused, repeated keys are refused, depth and the number of nodes after the
expansion of aliases are bounded. Scalars follow the YAML 1.2 core schema: `on`, `no` and dates stay text.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, Self

import yaml

from ingest.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 32

_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_INT = re.compile(r"[-+]?[0-9]{1,19}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,4})?")
_TEXT_HINT = "put quotes around a text that holds ': ', '#' or a leading '[', '{', '*', '&', '!', '%', '@'."


class PlainNumber(float):
    """A decimal number that remembers how it was written: the version 2.10 is not 2.1."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Read the number and keep its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def read_yaml(data: bytes, where: str) -> Any:
    """Return the one document in ``data``; :class:`CardError` for anything else, naming the line."""
    if len(data) > MAX_BYTES:
        raise CardError(where, f"{len(data)} bytes; a card has at most {MAX_BYTES}.", "is it a card at all?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CardError(where, f"byte {exc.start}: not UTF-8.", "save the card as UTF-8.") from exc
    try:
        return _Builder(where).build(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise CardError(where, f"{line}not valid YAML: {exc.problem or exc.context}.", _TEXT_HINT) from exc
    except yaml.YAMLError as exc:
        raise CardError(where, f"not valid YAML: {str(exc).splitlines()[0]}.", _TEXT_HINT) from exc
    except (ValueError, RecursionError) as exc:
        raise CardError(where, f"not valid YAML: {type(exc).__name__}.", _TEXT_HINT) from exc


class _Builder:
    """Builds one document from parser events with a stack of open collections."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._nodes = 0
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        # Open collections: (value, its pending key, its anchor, nodes before it)
        self._open: list[list[Any]] = []
        self._documents: list[Any] = []

    def build(self, events: Iterator[yaml.Event]) -> Any:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document (---) begins.", "one card a file.")
            elif isinstance(event, yaml.AliasEvent):
                self._add(event, self._alias(event))
            elif isinstance(event, yaml.ScalarEvent):
                self._check(event)
                value = _scalar(event)
                self._count(event, 1)
                self._remember(event.anchor, value, 1)
                self._add(event, value)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._check(event)
                if len(self._open) >= MAX_DEPTH:
                    self._refuse(event, f"more than {MAX_DEPTH} levels deep.", "is it a card at all?")
                self._count(event, 1)
                if event.anchor is not None:
                    self._anchors[event.anchor] = None
                value = {} if isinstance(event, yaml.MappingStartEvent) else []
                self._open.append([value, None, event.anchor, self._nodes - 1])
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                value, _, anchor, before = self._open.pop()
                self._remember(anchor, value, self._nodes - before)
                self._add(event, value)
        return self._documents[0] if self._documents else None

    def _add(self, event: yaml.Event, value: Any) -> None:
        """Put a finished value where it belongs: the document, a list, a mapping's key or its value."""
        if not self._open:
            self._documents.append(value)
            return
        parent = self._open[-1]
        if isinstance(parent[0], list):
            parent[0].append(value)
        elif parent[1] is None:
            key = value.text if isinstance(value, PlainNumber) else value
            if isinstance(key, (dict, list)) or key is None:
                self._refuse(event, "a key that is not a text.", _TEXT_HINT)
            key = str(key)
            if key == "<<":
                self._refuse(event, "a merge key (<<).", "write the fields out.")
            if key in parent[0]:
                self._refuse(event, f"the key {key!r} is there twice.", "keep one.")
            parent[1] = key
        else:
            parent[0][parent[1]] = value
            parent[1] = None

    def _alias(self, event: yaml.AliasEvent) -> Any:
        known = self._anchors.get(str(event.anchor))
        if known is None:
            self._refuse(event, f"the alias *{event.anchor} has no finished anchor.", "write the value out.")
        value, nodes = known  # type: ignore[misc]
        self._count(event, nodes)
        return copy.deepcopy(value) if isinstance(value, (dict, list)) else value

    def _remember(self, anchor: str | None, value: Any, nodes: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, nodes)

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES} values, aliases expanded.", "is it a card at all?")

    def _check(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            self._refuse(event, f"the YAML tag {event.tag[:60]!r}.", "a card has plain values only.")

    def _refuse(self, event: yaml.Event, what: str, hint: str) -> None:
        line = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
        raise CardError(self._where, f"{line}{what}", hint)


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.style not in (None, "") or event.tag == "!":
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        # A leading zero would be lost: 007 is a name, not a number.
        return int(text) if str(int(text)) == text.lstrip("+") else text
    return PlainNumber(text) if _FLOAT.fullmatch(text) else text
