"""Judge the facts of a trace by the expectation suites."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ingest.errors import ValidationError
from ingest.formats.base import rows_batch
from ingest.quality.catalogue import judged_tables
from ingest.quality.suites import Rule, Severity, suites

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

FactRow = dict[str, Any]  # a row of quality_facts


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule: a row of ``quality_findings``."""

    table_name: str
    rule: str
    severity: Severity
    subject: str | None
    value: float | None
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.table_name}: {self.message}"


def judge(facts: pa.Table) -> list[Finding]:
    """Return what the suites hold against ``facts`` (rows of ``quality_facts``), errors first.

    Great Expectations judges the tables of which a fact could break a rule; a trace without such a fact does
    not wait for its import.
    """
    by_table = facts_by_table(facts)
    suspects = [table for table, rows in by_table.items() if _may_fail(table, rows)]
    if not suspects:
        return []
    from ingest.quality.great import validate

    return findings_of({table: by_table[table] for table in suspects}, validate(by_table, suspects))


def facts_by_table(facts: pa.Table) -> dict[str, list[FactRow]]:
    """Return the rows of each judged table.

    ``ValueError`` where a table was not measured, :class:`ValidationError` where a value is not a number: GX
    passes an empty frame and takes NaN for null, so that either would count as good.
    """
    by_table: dict[str, list[FactRow]] = {table: [] for table in judged_tables()}
    for row in facts.to_pylist():
        by_table[row["table_name"]].append(row)
        if row["value"] is not None and math.isnan(row["value"]):
            raise ValidationError(
                row["table_name"],
                f"{row['fact']}{' of ' + row['subject'] if row['subject'] else ''} is no number: values of the "
                "trace are beyond all measure.",
                "use the tool's own file, unedited.",
            )
    unmeasured = [t for t, rows in by_table.items() if not any(r["fact"] == "rows" for r in rows)]
    if unmeasured:
        raise ValueError(f"without facts: {', '.join(unmeasured)}")
    return by_table


def findings_of(by_table: dict[str, list[FactRow]], results: dict[str, Any]) -> list[Finding]:
    """Return the breaches in GX's results; of two rules on one fact the error stands for the finding."""
    found: dict[tuple[str, str, str | None], list[Finding]] = {}
    for table, result in results.items():
        rules = {rule.name: rule for rule in suites()[table].rules}
        for name, subject in result.breaches:
            rule = rules[name]
            finding = _finding(rule, subject, by_table[table])
            found.setdefault((table, rule.fact, subject), []).append(finding)
    kept: list[Finding] = []
    for group in found.values():
        errors = [f for f in group if f.severity == "error"]
        kept += errors or group
    return sorted(kept, key=lambda f: (f.severity != "error", f.table_name, f.rule, f.subject or ""))


def findings_table(findings: Iterable[Finding]) -> pa.Table:
    """Return findings as rows of ``quality_findings``."""
    import pyarrow as pa

    return pa.Table.from_batches([rows_batch("quality_findings", [asdict(f) for f in findings]).rows])


def _may_fail(table: str, rows: list[FactRow]) -> bool:
    rules: dict[str, list[Rule]] = {}
    for rule in suites()[table].rules:
        rules.setdefault(rule.fact, []).append(rule)
    return any(rule.may_fail(row["value"]) for row in rows for rule in rules.get(row["fact"], ()))


def _finding(rule: Rule, subject: str | None, rows: list[FactRow]) -> Finding:
    broken = next(r for r in rows if r["fact"] == rule.fact and r["subject"] == subject)
    # Other facts of the table and of the same subject may be named in a message.
    words = defaultdict(lambda: "unknown", {r["fact"]: _shown(r) for r in rows if r["subject"] is None})
    words |= {r["fact"]: _shown(r) for r in rows if r["subject"] == subject}
    words |= {"value": _shown(broken), "text": broken["text"] or "", "subject": subject or rule.table}
    return Finding(
        rule.table, rule.name, rule.severity, subject, broken["value"],
        rule.message.format_map(words), rule.remedy,
    )  # fmt: skip


def _shown(row: FactRow) -> str:
    value = row["value"]
    if value is None:
        return row["text"] or "unknown"
    # No exponents below a million billion, no digits that nobody reads.
    return f"{value:.0f}" if value.is_integer() or 1000 <= abs(value) < 1e15 else f"{value:.4g}"
