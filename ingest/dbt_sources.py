"""Writes what follows from the contracts: the dbt source ``raw`` and ``docs/tables.md``.

``python -m ingest.dbt_sources`` writes both; a test compares them with the files in the repository.
"""

from __future__ import annotations

import json
from pathlib import Path

from ingest.contracts import Contract, contracts

SOURCES = Path("dbt_project/models/staging/_raw__sources.yml")
DOCS = Path("docs/tables.md")
_BY = "`python -m ingest.dbt_sources` from schemas/*.yml; do not edit."


def sources_yml() -> str:
    """Return the dbt source ``raw``, one table a contract."""
    lines = [
        f"# Written by {_BY}",
        "sources:",
        "  - name: raw",
        "    database: lake",
        "    schema: raw",
        "    tables:",
    ]
    for table in contracts().values():
        lines += [f"      - name: {table.name}", f"        description: {_grain(table)}", "        columns:"]
        for column in table.columns:
            lines += [
                f"          - name: {column.name}",
                f"            data_type: {column.sql_type.lower()}",
                f"            description: {json.dumps(column.description, ensure_ascii=False)}",
            ]
    return "\n".join(lines) + "\n"


def tables_md() -> str:
    """Return the page that describes every raw table."""
    parts = ["# Raw tables", "", f"Written by {_BY}", ""]
    for table in contracts().values():
        parts += [f"## {table.name}", "", f"{_grain(table)} Key: {', '.join(table.key)}.", ""]
        parts += ["| column | type | unit | null | meaning |", "|---|---|---|---|---|"]
        for column in table.columns:
            null = "yes" if column.nullable else "no"
            meaning = column.description.replace("|", "\\|")
            parts.append(f"| {column.name} | {column.type} | {column.unit or ''} | {null} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def _grain(table: Contract) -> str:
    return f"One row per {table.grain.removeprefix('one ')}."


def main() -> None:
    """Write both files below the working directory, the repository's root."""
    SOURCES.write_text(sources_yml(), encoding="utf-8")
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(tables_md(), encoding="utf-8")


if __name__ == "__main__":
    main()
