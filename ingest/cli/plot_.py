"""``plot``: pictures of what a trace did to NVLink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("trace_ids", nargs=-1, required=True, metavar="TRACE…")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default="here",
    metavar="DIR", help="Where the pictures go.",
)  # fmt: skip
@click.option("--tx-rx", is_flag=True, help="Add a panel with both directions.")
@click.option("--links", is_flag=True, help="Add a map of every link over time.")
@click.option("--gpu", type=int, metavar="N", help="Only this GPU.")
@click.option(
    "--format", "kind", type=click.Choice(["png", "svg", "both"]), default="both", show_default=True,
    help="Kind of picture.",
)  # fmt: skip
@click.pass_obj
def plot(
    obj: dict[str, Any],
    trace_ids: tuple[str, ...],
    out: Path,
    tx_rx: bool,
    links: bool,
    gpu: int | None,
    kind: str,
) -> None:
    """Plot NVLink bandwidth over time: bursts, phases, the GPU's peak.

    The paths written go to stdout, one a line. Nothing is written when one of the traces cannot be drawn.

    \b
    Example:
      tracelake plot qwen3-32b-tp_4-batch_1 -o plots --tx-rx
    """
    from ingest.lake import Lake
    from ingest.plot import check, write

    with Lake(obj["lake"], read_only=True) as lake:
        for trace_id in trace_ids:
            check(lake, trace_id, gpu=gpu, links=links)
        for trace_id in dict.fromkeys(trace_ids):
            formats = ("png", "svg") if kind == "both" else (kind,)
            for path in write(lake, trace_id, out, formats=formats, gpu=gpu, tx_rx=tx_rx, links=links):
                click.echo(path)
