"""Writes ``docs/rules.md``: every rule of the expectation suites and of what it says.

``python -m ingest.quality.rules_md`` writes it; a test compares it with the file in the repository.
"""

from __future__ import annotations

from pathlib import Path

from ingest.quality.catalogue import catalogue
from ingest.quality.suites import Rule, suites

DOCS = Path("docs/rules.md")


def rules_md() -> str:
    """Return the page of all rules, one table a suite."""
    parts = [
        "# Rules of validation",
        "",
        "Written by `python -m ingest.quality.rules_md` from schemas/expectations/*.yml; do not edit.",
        "",
        "What is judged are the facts of `schemas/facts.yml`. A fact that the trace cannot tell is null and breaks",
        "no rule. An error keeps a trace out; a finding does unless `--allow-findings` is given.",
        "",
    ]
    for table, suite in suites().items():
        parts += [
            f"## {table}",
            "",
            "| rule | severity | fact | holds for | otherwise | remedy |",
            "|---|---|---|---|---|---|",
        ]
        parts += [
            f"| `{r.name}` | {r.severity} | `{r.fact}` | {limits(r)} | {r.message} | {r.remedy} |"
            for r in suite.rules
        ]
        parts.append("")
    return "\n".join(parts)


def limits(rule: Rule) -> str:
    """Return a rule's limits in words, in the fact's unit."""
    low, high = rule.kwargs.get("min_value"), rule.kwargs.get("max_value")
    unit = catalogue()[rule.fact].unit
    if low is not None and high is not None:
        words = f"{low}" if low == high else f"{low} to {high}"
    elif low is not None:
        words = f"above {low}" if rule.kwargs.get("strict_min") else f"at least {low}"
    else:
        words = f"below {high}" if rule.kwargs.get("strict_max") else f"at most {high}"
    return f"{words} {unit}" if unit else words


def main() -> None:
    """Write the page below the working directory, the repository's root."""
    DOCS.write_text(rules_md(), encoding="utf-8")


if __name__ == "__main__":
    main()
