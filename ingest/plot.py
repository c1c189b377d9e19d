"""Pictures of a built trace: NVLink bandwidth over time, with bursts, phases and the GPU's peak.

Drawing is matplotlib's object API alone: nothing here touches pyplot's global state or needs a display.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ingest.plot_data import PlotError, check, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.lake import Lake
    from ingest.plot_data import LinkMap, PlotData, Series

__all__ = ["PlotError", "check", "draw", "read", "write"]

# A line this many times above the data would flatten it: it is named at the margin instead.
_OFF_SCALE = 2.5

_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#444444"
_RX = "#D55E00"
_PALE = "#CFE2F0"  # of the blue; opaque, for a burst's shade must not shine through
# Okabe and Ito's palette: told apart with any colour vision.
_PHASE_COLOURS = {
    "prefill": "#CC79A7", "decode": "#009E73", "mixed": "#F0E442",
    "forward": "#56B4E9", "backward": "#D55E00", "optimizer": "#CC79A7", "step": "#999999",
}  # fmt: skip


def draw(data: PlotData, *, tx_rx: bool = False) -> Figure:
    """Draw ``data``: a strip of phases, then for each GPU its bandwidth, TX and RX if asked for, and its links."""
    unit, scale = _time_unit(data.window_s)
    panels: list[tuple[str, Series | None, float]] = []
    if data.phases:
        panels.append(("phases", None, 0.3 + 0.22 * len(data.phases)))
    for series in data.series:
        panels.append(("total", series, 2.6 if len(data.series) < 4 else 1.7))
        if tx_rx:
            panels.append(("tx_rx", series, 1.9))
        if series.gpu_index in data.links:
            panels.append(("links", series, 0.7 + 0.1 * len(data.links[series.gpu_index].links)))
    heights = [height for _, _, height in panels]
    figure = Figure(figsize=(12, sum(heights) + 1.6), dpi=120, layout="constrained")
    ratios = [60, 1] if data.links else [1]
    grid = figure.add_gridspec(len(panels), len(ratios), height_ratios=heights, width_ratios=ratios)
    axes: list[Any] = []
    for row, (kind, panel_series, _) in enumerate(panels):
        axis = figure.add_subplot(grid[row, 0], sharex=axes[0] if axes else None)
        axes.append(axis)
        if panel_series is None:
            _draw_phases(axis, data, scale)
        elif kind == "total":
            _draw_total(axis, data, panel_series, scale)
        elif kind == "tx_rx":
            _draw_tx_rx(axis, panel_series, scale)
        else:
            links = data.links[panel_series.gpu_index]
            image = _draw_links(axis, links, panel_series.gpu_index, scale)
            figure.colorbar(image, cax=figure.add_subplot(grid[row, 1]), label="GB/s")
        axis.tick_params(labelbottom=row == len(panels) - 1)
    axes[0].set_xlim(0, data.window_s * scale)
    axes[-1].set_xlabel(f"Time since the start of the profile window ({unit})")
    # A trace id is no formula, whatever dollar signs it has.
    figure.suptitle(data.trace_id, parse_math=False, fontsize=13, fontweight="bold", x=0.01, ha="left")
    figure.align_ylabels(axes)
    figure.legend(
        handles=_legend(data, tx_rx), loc="outside lower center", ncols=6, frameon=False, fontsize=9
    )
    return figure


def _time_unit(seconds: float) -> tuple[str, float]:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1 or unit == "µs":
            return unit, scale
    raise AssertionError("unreachable")


def _draw_phases(axis: Any, data: PlotData, scale: float) -> None:
    for lane, (phase, spans) in enumerate(data.phases.items()):
        bars = [(a * scale, (b - a) * scale) for a, b in spans]
        colour = _phase_colour(phase)
        # The thin edge keeps a phase of less than a pixel in sight.
        axis.broken_barh(bars, (lane - 0.4, 0.8), facecolor=colour, edgecolor=colour, linewidth=0.4)
    axis.set_yticks(range(len(data.phases)), list(data.phases))
    axis.set_ylim(len(data.phases) - 0.4, -0.6)
    axis.tick_params(left=False, bottom=False)
    axis.spines[:].set_visible(False)


def _phase_colour(phase: str) -> str:
    return _PHASE_COLOURS.get(phase, "#999999")


def _broken(series: Series, first: Any, second: Any) -> Any:
    """Interleave two values a column, shape (2 · columns + gaps,), with a NaN where columns are missing."""
    values = np.column_stack((first, second)).ravel().astype(float)
    gaps: Any = np.flatnonzero(np.diff(series.column) > 1) + 1
    return np.insert(values, gaps * 2, np.nan)


def _draw_total(axis: Any, data: PlotData, series: Series, scale: float) -> None:
    edges = _broken(series, series.start_s, series.end_s) * scale
    axis.fill_between(edges, 0, _broken(series, series.high, series.high), color=_PALE, linewidth=0)
    if data.buckets_a_column == 1:
        axis.plot(edges, _broken(series, series.high, series.high), color=_BLUE, linewidth=0.9)
    else:
        middle = (series.start_s + series.end_s) / 2 * scale
        axis.plot(
            _broken(series, middle, middle),
            _broken(series, series.low, series.high),
            color=_BLUE,
            linewidth=0.7,
        )
    if series.bursts:
        bars = [(a * scale, (b - a) * scale) for a, b in series.bursts]
        axis.broken_barh(
            bars, (0, 1), transform=axis.get_xaxis_transform(), facecolor=_ORANGE, edgecolor=_ORANGE,
            linewidth=0.4, alpha=0.3, zorder=0,
        )  # fmt: skip
    highest = float(series.high.max())
    threshold, peak = data.burst_threshold_gb_s, series.peak_gb_s
    reach = highest * _OFF_SCALE if highest > 0 else threshold
    notes = []
    if threshold <= reach:
        axis.axhline(threshold, color=_ORANGE, linestyle=":", linewidth=1.4)
    else:
        notes.append(f"burst threshold {threshold:g} GB/s")
    if peak is not None and peak <= reach:
        axis.axhline(peak, color=_GREY, linestyle="--", linewidth=1.1)
        axis.annotate(
            f"NVLink peak of {series.model}: {peak:g} GB/s", (1, peak), xycoords=("axes fraction", "data"),
            xytext=(-4, -3), textcoords="offset points", ha="right", va="top", fontsize=8, color=_GREY,
        )  # fmt: skip
    elif peak is not None:
        notes.append(f"NVLink peak of {series.model} {peak:g} GB/s")
    shown = [v for v in (highest, threshold, peak or 0.0) if v <= max(reach, highest)]
    axis.set_ylim(0, max(shown) * 1.12 or 1)
    if notes:
        axis.text(
            1, 1.01, f"above the scale ↑: {', '.join(notes)}", transform=axis.transAxes,
            ha="right", va="bottom", fontsize=8, color=_GREY,
        )  # fmt: skip
    _name(axis, f"GPU {series.gpu_index} · TX + RX")
    _dress(axis)


def _draw_tx_rx(axis: Any, series: Series, scale: float) -> None:
    """TX upwards, RX downwards: drawn over one another, equal directions would hide each other."""
    edges = _broken(series, series.start_s, series.end_s) * scale
    for high, colour, sign in ((series.tx_high, _BLUE, 1), (series.rx_high, _RX, -1)):
        values = _broken(series, high, high) * sign
        axis.fill_between(edges, 0, values, color=colour, alpha=0.5, linewidth=0)
        axis.plot(edges, values, color=colour, linewidth=0.6)
    highest = max(float(series.tx_high.max()), float(series.rx_high.max())) * 1.12 or 1
    axis.set_ylim(-highest, highest)
    axis.axhline(0, color=_GREY, linewidth=0.6)
    axis.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    _name(axis, f"GPU {series.gpu_index} · TX (up) and RX (down)")
    _dress(axis)


def _draw_links(axis: Any, links: LinkMap, gpu_index: int, scale: float) -> Any:
    count, columns = links.gb_s.shape
    axis.set_facecolor("#eeeeee")
    image = axis.imshow(
        np.ma.masked_invalid(links.gb_s), aspect="auto", origin="lower", cmap="viridis", vmin=0, interpolation="nearest",
        extent=(0, columns * links.column_s * scale, -0.5, count - 0.5),
    )  # fmt: skip
    every = max(1, count // 6)
    axis.set_yticks(range(0, count, every), [str(link) for link in links.links[::every]])
    axis.set_ylabel("Link")
    _name(axis, f"GPU {gpu_index} · each link, TX + RX, mean over {links.column_s * 1e3:.3g} ms")
    return image


def _name(axis: Any, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=9)


def _dress(axis: Any) -> None:
    axis.set_ylabel("GB/s")
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(data: PlotData, tx_rx: bool) -> list[Any]:
    each = data.buckets_a_column
    text = f"bandwidth, {data.bucket_ms:g} ms buckets" + (f" (min and max of {each})" if each > 1 else "")
    handles: list[Any] = [
        Line2D([], [], color=_BLUE, label=text),
        Line2D(
            [], [], color=_ORANGE, linestyle=":", label=f"burst threshold {data.burst_threshold_gb_s:g} GB/s"
        ),
    ]
    if any(series.bursts for series in data.series):
        handles.append(Patch(facecolor=_ORANGE, alpha=0.3, label="burst"))
    if any(series.peak_gb_s for series in data.series):
        handles.append(Line2D([], [], color=_GREY, linestyle="--", label="NVLink peak"))
    if tx_rx:
        handles += [
            Patch(facecolor=_BLUE, alpha=0.5, label="TX"),
            Patch(facecolor=_RX, alpha=0.5, label="RX"),
        ]
    return handles + [Patch(facecolor=_phase_colour(phase), label=phase) for phase in data.phases]


def write(
    lake: Lake,
    trace_id: str,
    folder: Path,
    *,
    formats: Sequence[str] = ("png", "svg"),
    gpu: int | None = None,
    tx_rx: bool = False,
    links: bool = False,
) -> list[Path]:
    """Draw a trace into ``folder`` and return the files written.

    Their name is the percent-encoded trace id, with ``.gpuN`` behind it for a single GPU. Raises what
    :func:`check` raises, and :class:`PlotError` when the folder cannot be written.
    """
    figure = draw(read(lake, trace_id, gpu=gpu, links=links), tx_rx=tx_rx)
    stem = quote(trace_id, safe="") + ("" if gpu is None else f".gpu{gpu}")
    paths = []
    # Equal data make equal files; text in SVG stays text.
    style = {"svg.hashsalt": "tracelake", "svg.fonttype": "none"}
    for kind in formats:
        buffer = io.BytesIO()
        with matplotlib.rc_context(style), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
        path = folder / f"{stem}.{kind}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue())
        except OSError as exc:
            raise PlotError(
                path, f"cannot be written: {exc.strerror}.", "choose another folder with -o."
            ) from exc
        paths.append(path)
    return paths
