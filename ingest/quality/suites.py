"""The rules: Great Expectations suites, ``schemas/expectations/<table>.yml``, read without importing GX.

A file is what ``great_expectations.ExpectationSuite(**document)`` takes, word for word. Its columns are facts of
``schemas/facts.yml``; ``meta`` names the rule, how bad a breach is, what is said and what helps.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from ingest.resources import resource

if TYPE_CHECKING:
    from pathlib import Path

Severity = Literal["finding", "error"]

# A double holds every whole number up to here. Below, rounding a larger fact to a double cannot carry it
# over a limit; at a limit above, it could, and GX compares doubles.
EXACT = 2**53
_LIMITS = ("min_value", "max_value")


@dataclass(frozen=True, slots=True)
class Rule:
    """One expectation of a suite: the fact it judges, and what is said when it fails."""

    table: str
    name: str
    severity: Severity
    fact: str
    message: str
    remedy: str
    type: str
    kwargs: dict[str, Any]

    def may_fail(self, value: float | None) -> bool:
        """Whether a fact's value could break the rule; only GX says whether it does.

        Never false where GX would find something: that is a property test. It spares clean traces the
        seconds that importing GX takes.
        """
        if value is None:
            return False
        if self.type != "expect_column_values_to_be_between":
            return True
        low, high = self.kwargs.get("min_value"), self.kwargs.get("max_value")
        below = low is not None and (value <= low if self.kwargs.get("strict_min") else value < low)
        above = high is not None and (value >= high if self.kwargs.get("strict_max") else value > high)
        return below or above


@dataclass(frozen=True, slots=True)
class Suite:
    """The rules of one raw table, and the document that GX takes."""

    table: str
    document: dict[str, Any]
    rules: tuple[Rule, ...]


@functools.cache
def suites() -> dict[str, Suite]:
    """All suites by table."""
    folder = resource("schemas") / "expectations"
    return {path.stem: read_suite(path) for path in sorted(folder.glob("*.yml"))}


def read_suite(path: Path) -> Suite:
    """Read one suite; ``ValueError`` names file and rule where it is not as the module's docstring says."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if document["name"] != path.stem:
        raise ValueError(f"{path}: the suite is named {document['name']!r}, the file is not")
    return Suite(path.stem, document, tuple(_rule(path, e) for e in document["expectations"]))


def _rule(path: Path, expectation: dict[str, Any]) -> Rule:
    meta, kwargs = expectation["meta"], expectation["kwargs"]
    where = f"{path}: {meta.get('rule')}"
    if set(meta) != {"rule", "severity", "message", "remedy"} or meta["severity"] not in get_args(Severity):
        raise ValueError(f"{where}: meta is rule, severity (finding or error), message and remedy")
    for limit in _LIMITS:
        if limit in kwargs and abs(kwargs[limit]) >= EXACT:
            raise ValueError(f"{where}: {limit} is beyond 2^53, where doubles are not exact")
    return Rule(
        path.stem, meta["rule"], meta["severity"], kwargs["column"], meta["message"], meta["remedy"],
        expectation["type"], kwargs,
    )  # fmt: skip
