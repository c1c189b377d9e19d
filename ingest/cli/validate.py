"""``validate``: read a trace as ``ingest`` would, without a lake."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from ingest.cli.output import format_options, print_rows


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@format_options
@click.pass_obj
def validate(obj: dict[str, Any] | None, paths: tuple[str, ...], as_json: bool, as_csv: bool) -> None:
    """Say whether traces (directories or archives) may enter the lake, and why not.

    Reads card and files whole, as `ingest` does, and opens no lake. Exit 1 when a trace would be refused.

    \b
    Example:
      tracelake validate runs/qwen3-32b-tp_4-batch_1
    """
    from ingest.errors import TracelakeError
    from ingest.lake.writer import check_trace_id
    from ingest.load import stage
    from ingest.trace import open_trace

    rows: list[tuple[Any, ...]] = []
    for path in paths:
        try:
            with open_trace(Path(path)) as trace, tempfile.TemporaryDirectory(prefix="tracelake-") as scratch:
                check_trace_id(trace.trace_id)
                for n in trace.card.normalisations:
                    click.echo(
                        f"{trace.trace_id}: card: {n.path}: {n.before!r} read as {n.after!r}: {n.reason}",
                        err=True,
                    )
                for i in trace.ignored:
                    click.echo(f"{trace.trace_id}: {i.name}: ignored: {i.reason}", err=True)
                with stage(trace, Path(scratch)) as staged:
                    for name, s in staged.skips:
                        click.echo(
                            f"{trace.trace_id}: {name}: {s.severity}: {s.action} {s.rows} rows of {s.table}: {s.code}. {s.remedy or ''}".rstrip(),
                            err=True,
                        )
                    findings = sum(s.severity != "info" for _, s in staged.skips)
                    skipped = sum(s.rows for _, s in staged.skips if s.action == "skipped")
                    rows.append(
                        (trace.trace_id, "accepted", sum(staged.staged.rows.values()), skipped, findings)
                    )
        except TracelakeError as exc:
            if obj and obj.get("debug"):
                raise
            click.echo(f"tracelake: {exc}", err=True)
            rows.append((Path(path).name, "refused", None, None, None))
    columns = ("trace_id", "verdict", "rows", "rows_skipped", "findings")
    print_rows(columns, rows, as_json=as_json, as_csv=as_csv)
    if any(row[1] == "refused" for row in rows):
        raise click.exceptions.Exit(1)
