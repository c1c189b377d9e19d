"""``inbox``: uploads that fall into a folder go into the lake."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.cli.output import format_options, print_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.inbox import Handled


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C, looking again every few seconds.")
@click.option("--quiet-for", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="SECONDS",
              help="Leave an upload alone until nothing of it changed for so long.")  # fmt: skip
@click.option("--interval", type=click.FloatRange(min=0.1), default=2.0, show_default=True, metavar="SECONDS",
              help="With --watch: how often to look.")  # fmt: skip
@click.option("--allow-findings", is_flag=True,
              help="Take in traces with findings, the findings on record; errors never pass.")  # fmt: skip
@format_options
@click.pass_obj
def inbox(
    obj: dict[str, Any],
    folder: str,
    watch: bool,
    quiet_for: float,
    interval: float,
    allow_findings: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Take uploads (directories or archives in DIR) into the lake.

    Each is validated and ingested and goes to DIR/accepted, or with a report to DIR/rejected. Uploads that
    are still being written are left alone. Exit 1 when one was rejected or failed.

    \b
    Example:
      tracelake inbox /srv/uploads --watch
    """
    from ingest.inbox import Inbox
    from ingest.quality.check import Check

    check = Check(allow_findings=allow_findings)
    box = Inbox(Path(folder), obj["lake"], quiet_s=quiet_for, check=check)
    if not watch:
        found = list(_told(box.run_once()))
        columns = ("upload", "outcome", "trace_id", "rows")
        rows = [(_one_line(h.name), h.outcome, h.trace_id, h.rows) for h in found]
        print_rows(columns, rows, as_json=as_json, as_csv=as_csv)
        if any(h.outcome in ("rejected", "failed") for h in found):
            raise click.exceptions.Exit(1)
        return
    # A service manager stops with SIGTERM: the same clean end as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for handled in _told(box.watch(interval)):
            if handled.outcome != "waiting":
                click.echo(f"{time.strftime('%F %T')} {_one_line(handled.name)}: {handled.outcome}")
    except KeyboardInterrupt:
        click.echo("tracelake: stopped; what was not moved is taken up again by the next run.", err=True)


def _told(found: Iterable[Handled]) -> Iterable[Handled]:
    """Pass on what became of uploads, and say on stderr why."""
    from ingest.scrub.detect import REMEDY

    for handled in found:
        name = _one_line(handled.name)
        for secret in handled.secrets[:20]:
            click.echo(f"{name}: finding: {secret}\nHint: {REMEDY}", err=True)
        if handled.message:
            click.echo(f"{name}: {handled.outcome}: {handled.message}", err=True)
        yield handled


def _one_line(name: str) -> str:
    """A name as one line of valid text: line breaks and odd bytes are shown by their escapes."""
    return name.encode("utf-8", "backslashreplace").decode() if name.isprintable() else ascii(name)[1:-1]
