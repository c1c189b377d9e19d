"""``scrub``: a copy of a trace without what must not be uploaded."""

from __future__ import annotations

from pathlib import Path

import click

from ingest.cli.output import format_options, print_rows


@click.command()
@click.argument("trace", metavar="TRACE")
@click.option("-o", "--out", required=True, metavar="OUT",
              help="Where the copy goes: a folder or, by its ending, a .tar.zst, .tar.gz, .tar or .zip.")  # fmt: skip
@format_options
def scrub(trace: str, out: str, as_json: bool, as_csv: bool) -> None:
    """Write a copy of a trace without environment, processes, command lines, prompts and credentials.

    The copy holds what `ingest` reads, and gives the same rows. Nothing is overwritten; the original stays.

    \b
    Example:
      tracelake scrub runs/qwen3-32b-tp_4-batch_1 -o qwen3-32b-tp_4-batch_1.tar.zst
    """
    from ingest.scrub.copy import scrub as copy

    result = copy(Path(trace), Path(out))
    for left in result.left:
        click.echo(f"{result.trace_id}: {left.name}: stays behind: {left.reason}", err=True)
    print_rows(("file", "bytes", "bytes_after"), result.files, as_json=as_json, as_csv=as_csv)
