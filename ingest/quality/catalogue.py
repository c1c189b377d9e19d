"""The catalogue of quality facts, read from ``schemas/facts.yml``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import yaml

from ingest.contracts import contracts
from ingest.resources import resource


@dataclass(frozen=True, slots=True)
class Fact:
    """One kind of fact: the raw tables it is measured of, what its subject is, its unit and meaning."""

    fact: str
    tables: tuple[str, ...]
    about: str
    unit: str | None
    meaning: str


class Measured(NamedTuple):
    """One fact of one table; ``value`` in the catalogue's unit."""

    table: str
    fact: str
    subject: str | None
    value: float | None
    text: str | None = None


@functools.cache
def catalogue() -> dict[str, Fact]:
    """All kinds of facts by name; ``tables: [all]`` is every raw table but those that hold the verdict.

    >>> catalogue()["missed_polls"].unit
    'polls'
    """
    raw = yaml.safe_load((resource("schemas") / "facts.yml").read_text(encoding="utf-8"))
    facts = (Fact(**{**row, "tables": _tables(row["tables"])}) for row in raw)
    return {fact.fact: fact for fact in facts}


def judged_tables() -> tuple[str, ...]:
    """The raw tables that facts are about: all that a trace brings."""
    return tuple(table for table in contracts() if not table.startswith("quality_"))


def _tables(names: list[str]) -> tuple[str, ...]:
    return judged_tables() if names == ["all"] else tuple(names)
