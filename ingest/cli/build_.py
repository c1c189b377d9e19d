"""``build``: bring the marts up to date."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingest.build import BuildResult


@click.command()
@click.option(
    "--bucket-ms", type=click.FloatRange(min=0, min_open=True), help="Width of the timeline's buckets (1)."
)
@click.option(
    "--burst-threshold-gb-s", type=click.FloatRange(min=0), help="Above it a bucket is a burst's (20)."
)
@click.option("--full-refresh", is_flag=True, help="Build every trace anew.")
@click.pass_obj
def build(
    obj: dict[str, Any], bucket_ms: float | None, burst_threshold_gb_s: float | None, full_refresh: bool
) -> None:
    """Run dbt on the lake: new and changed traces only.

    Other settings than those of the last build build every trace anew.

    \b
    Example:
      tracelake build
      tracelake build --bucket-ms 10
    """
    from ingest.build import build as run

    with progress() as tick:
        result = run(
            Path(obj["lake"]), bucket_ms=bucket_ms, burst_threshold_gb_s=burst_threshold_gb_s,
            full_refresh=full_refresh, progress=tick,
        )  # fmt: skip
    click.echo(
        f"built {len(result.traces_built)} traces, took out {len(result.traces_removed)}, {result.seconds:.1f} s",
        err=True,
    )
    click.echo(f"verdict: {verdict(Path(obj['lake']), result)}", err=True)


def verdict(lake: Path, result: BuildResult) -> str:
    """Say whether what was built can be believed: a failed test ends the build, findings came with the traces."""
    from ingest.lake import Lake

    if not result.traces_built:
        return "good, the marts are as they were tested"
    with Lake(lake, read_only=True) as opened:
        findings, traces = opened.sql(
            "select count(*), count(distinct trace_id) from lake.raw.quality_findings "
            "where list_contains(?, trace_id)",
            [result.traces_built],
        )[0]
    tested = f"{result.tests_passed} data tests passed"
    if findings:
        return f"{tested}; {findings} findings on record for {traces} traces (lake.raw.quality_findings)"
    return f"good, {tested}, no findings on record"


@contextmanager
def progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr with traces built, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("building", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
