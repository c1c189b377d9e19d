"""``demo``: the whole way on the sample traces that travel with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("tracelake-demo"), show_default=True,
              help="Folder for the demo's lake and CSV.")  # fmt: skip
@click.pass_obj
def demo(obj: dict[str, Any], out: Path) -> None:
    """Ingest the sample traces, build, print the metrics table.

    The demo makes its own lake and leaves yours alone.

    \b
    Example:
      tracelake demo -o /tmp/demo
    """
    from ingest.build import build
    from ingest.cli.build_ import progress
    from ingest.cli.output import print_rows, write_csv
    from ingest.lake import Lake
    from ingest.load import ingest
    from ingest.quality.check import Check
    from ingest.resources import resource

    root = out / "lake"
    with Lake.create(root) as lake:
        for path in sorted(resource("traces").iterdir()):
            result = ingest(path, lake, check=Check())
            click.echo(f"ingest {path.name}: {result.outcome}, {sum(result.rows.values())} rows", err=True)
    with progress() as tick:
        built = build(root, progress=tick)
    click.echo(f"build: {len(built.traces_built)} traces, {built.tests_passed} data tests passed", err=True)
    with Lake(root, read_only=True) as lake:
        cursor = lake.con.execute("select * from lake.marts.experiment_metrics order by experiment")
        columns, rows = [d[0] for d in cursor.description or []], cursor.fetchall()
    table = out / "experiment_metrics.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, columns, rows)
    # The field's own columns, turned so that they fit: one row a metric, one column a trace.
    wide = columns.index("trace_id")
    turned = [(columns[i], *(row[i] for row in rows)) for i in range(1, wide)]
    print_rows((columns[0], *(row[0] for row in rows)), turned)
    click.echo(
        f"\nCSV:  {table}\nlake: {root}\nnext: tracelake --lake {root} sql 'select * from nvlink_bursts limit 5'"
    )
