"""Pictures of a built trace: NVLink bandwidth over time, with bursts, phases and the GPU's peak.

A trace may have millions of buckets. SQL reduces them to at most :data:`COLUMNS` columns, each with its
smallest and largest value, so that a peak of one bucket still shows. Drawing is matplotlib's object API
alone: nothing here touches pyplot's global state or needs a display.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ingest.errors import LakeError, TracelakeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.lake import Lake

COLUMNS = 2000  # about what a wide screen can tell apart
_LINK_COLUMNS = 600

# A line this many times above the data would flatten it: it is named at the margin instead.
_OFF_SCALE = 2.5

_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#444444"
_RX = "#D55E00"
# Okabe and Ito's palette: told apart with any colour vision.
_PHASE_COLOURS = {
    "prefill": "#CC79A7", "decode": "#009E73", "mixed": "#F0E442",
    "forward": "#56B4E9", "backward": "#D55E00", "optimizer": "#CC79A7", "step": "#999999",
}  # fmt: skip


class PlotError(TracelakeError):
    """The trace holds nothing that could be drawn."""


@dataclass(frozen=True, slots=True)
class Series:
    """One GPU's columns, in order of time; arrays of shape (columns,), GB/s and seconds from the window's start.

    ``column`` numbers them; a number left out is a gap without reads.
    """

    gpu_index: int
    column: Any
    start_s: Any
    end_s: Any
    low: Any
    high: Any
    tx_high: Any
    rx_high: Any
    peak_gb_s: float | None  # of the GPU model, both directions; None if unknown
    model: str | None
    bursts: list[tuple[float, float]] = field(default_factory=list)  # (start, end), merged within a column


@dataclass(frozen=True, slots=True)
class LinkMap:
    """Mean GB/s of each link of one GPU; ``gb_s`` has shape (links, columns), NaN where nothing was read."""

    links: list[int]
    gb_s: Any
    column_s: float


@dataclass(frozen=True, slots=True)
class PlotData:
    """All that a picture of one trace needs."""

    trace_id: str
    window_s: float
    window_source: str
    bucket_ms: float
    buckets_a_column: int
    burst_threshold_gb_s: float
    series: list[Series]
    phases: dict[str, list[tuple[float, float]]]
    links: dict[int, LinkMap]


def check(lake: Lake, trace_id: str, *, gpu: int | None = None, links: bool = False) -> None:
    """Raise unless the trace can be drawn so.

    :class:`UnknownTraceError`, :class:`LakeError` (not built), :class:`PlotError` (no counters) or
    :class:`UsageError` (a GPU that was not polled).
    """
    lake.require(trace_id)
    if ("marts", "built_traces") not in lake.tables():
        raise LakeError(lake.place.root, "the marts were not built yet.", "run `tracelake build`.")
    built = lake.sql("select content_sha256 from lake.marts.built_traces where trace_id = ?", [trace_id])
    if not built or built[0][0] != lake.content(trace_id):
        what = "the trace was replaced since it was built." if built else "the trace was not built yet."
        raise LakeError(trace_id, what, "run `tracelake build`.")
    polled = [
        row[0]
        for row in lake.sql(
            "select distinct gpu_index from lake.marts.nvlink_bandwidth where trace_id = ? order by 1",
            [trace_id],
        )
    ]
    if not polled:
        raise PlotError(
            trace_id, f"no NVLink counters to plot: {_reason(lake, trace_id)}.",
            "`tracelake record` reads them; `tracelake show` lists the files that the trace has.",
        )  # fmt: skip
    if gpu is not None and gpu not in polled:
        raise UsageError(
            trace_id,
            f"GPU {gpu} was not polled.",
            f"polled GPUs: {', '.join(str(index) for index in polled)}",
        )
    if links and not lake.sql(
        "select 1 from lake.raw.nvlink_samples where trace_id = ? and link_id is not null "
        "and gpu_index = coalesce(?, gpu_index) limit 1",
        [trace_id, gpu],
    ):
        raise PlotError(
            trace_id, "the counters were read as the sum of all links, so single links cannot be drawn.",
            "leave out --links; `tracelake record --links all` reads each link.",
        )  # fmt: skip


def _reason(lake: Lake, trace_id: str) -> str:
    rows = lake.sql(
        "select reason from lake.marts.metric_abstentions where trace_id = ? and metric = 'peak_nvlink_gb_s'",
        [trace_id],
    )
    return rows[0][0] if rows else "the trace's only GPU has no NVLink, so its traffic is 0 throughout"


def read(
    lake: Lake, trace_id: str, *, gpu: int | None = None, links: bool = False, columns: int = COLUMNS
) -> PlotData:
    """Read what a picture needs, reduced to at most ``columns`` columns. Raises what :func:`check` raises."""
    check(lake, trace_id, gpu=gpu, links=links)
    bucket_ms, threshold = lake.sql(
        "select bucket_ms, burst_threshold_gb_s from lake.marts.built_traces where trace_id = ?", [trace_id]
    )[0]
    start_ns, end_ns, source = lake.sql(
        "select window_start_ns, window_end_ns, window_source from lake.marts.experiment_metrics where trace_id = ?",
        [trace_id],
    )[0]
    count = lake.sql(
        "select max(bucket) + 1 from lake.marts.nvlink_bandwidth where trace_id = ?", [trace_id]
    )[0][0]
    each = max(1, -(-count // columns))
    column_ns = max(1, -(-(end_ns - start_ns) // columns))
    return PlotData(
        trace_id=trace_id,
        window_s=(end_ns - start_ns) / 1e9,
        window_source=source,
        bucket_ms=bucket_ms,
        buckets_a_column=each,
        burst_threshold_gb_s=threshold,
        series=_series(lake, trace_id, gpu, start_ns, each, column_ns),
        phases=_phases(lake, trace_id, start_ns, end_ns, column_ns),
        links=_links(lake, trace_id, gpu, start_ns, end_ns, bucket_ms) if links else {},
    )


def _series(
    lake: Lake, trace_id: str, gpu: int | None, start_ns: int, each: int, column_ns: int
) -> list[Series]:
    table = lake.con.execute(
        """
        select
            gpu_index, bucket // $each as col,
            (min(start_ns) - $start) / 1e9 as start_s, (max(end_ns) - $start) / 1e9 as end_s,
            min(gb_s) as low, max(gb_s) as high,
            max(tx_bytes / (end_ns - start_ns)) as tx_high, max(rx_bytes / (end_ns - start_ns)) as rx_high
        from lake.marts.nvlink_bandwidth
        where trace_id = $trace and gpu_index = coalesce($gpu, gpu_index)
        group by all order by gpu_index, col
        """,
        {"each": each, "start": start_ns, "trace": trace_id, "gpu": gpu},
    ).fetchnumpy()
    bursts: dict[int, list[tuple[float, float]]] = {}
    merged = _merged_sql("lake.marts.nvlink_bursts", "gpu_index")
    for index, start_s, end_s in lake.con.execute(
        merged, {"trace": trace_id, "start": start_ns, "width": column_ns}
    ).fetchall():
        bursts.setdefault(index, []).append((start_s, end_s))
    peaks = _peaks(lake, trace_id)
    found = []
    for index in np.unique(table["gpu_index"]).tolist():
        rows = table["gpu_index"] == index
        model, peak = peaks.get(index, (None, None))
        column, start_s, end_s, low, high, tx_high, rx_high = (
            np.asarray(table[name][rows])
            for name in ("col", "start_s", "end_s", "low", "high", "tx_high", "rx_high")
        )
        found.append(
            Series(
                gpu_index=index,
                column=column,
                start_s=start_s,
                end_s=end_s,
                low=low,
                high=high,
                tx_high=tx_high,
                rx_high=rx_high,
                peak_gb_s=peak,
                model=model,
                bursts=bursts.get(index, []),
            )
        )
    return found


def _merged_sql(table: str, key: str) -> str:
    """Spans of ``table``, those of one ``key`` that touch the same column made one: at most one a column."""
    return f"""
        with spans as (
            select {key} as key, start_ns - $start as a, end_ns - $start as b
            from {table} where trace_id = $trace and end_ns > start_ns
        ),
        marked as (
            select *, a // $width > max((b - 1) // $width) over (
                partition by key order by a, b rows between unbounded preceding and 1 preceding
            ) as is_new
            from spans
        ),
        numbered as (
            select *, count(*) filter (where coalesce(is_new, true)) over (partition by key order by a, b) as island
            from marked
        )
        select key, min(a) / 1e9, max(b) / 1e9 from numbered group by key, island order by key, 2
    """


def _phases(
    lake: Lake, trace_id: str, start_ns: int, end_ns: int, column_ns: int
) -> dict[str, list[tuple[float, float]]]:
    """Phase windows clipped to the profile window, phases in the order of the palette."""
    longest = (end_ns - start_ns) / 1e9
    found: dict[str, list[tuple[float, float]]] = {}
    for phase, a, b in lake.con.execute(
        _merged_sql("lake.marts.phase_windows", "phase"),
        {"trace": trace_id, "start": start_ns, "width": column_ns},
    ).fetchall():
        if b > 0 and a < longest:
            found.setdefault(phase, []).append((max(a, 0.0), min(b, longest)))
    order = list(_PHASE_COLOURS)
    return dict(
        sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))
    )


def _peaks(lake: Lake, trace_id: str) -> dict[int, tuple[str, float]]:
    """(model, NVLink peak in GB/s) of each GPU whose model the seed knows."""
    if ("seeds", "gpu_link_specs") not in lake.tables():
        return {}
    rows = lake.sql(
        "select g.gpu_index, arg_min(s.gpu_model, s.priority), arg_min(s.peak_gb_s, s.priority) "
        "from lake.raw.gpus as g inner join lake.raw.traces as t using (trace_id) inner join lake.seeds.gpu_link_specs as s "
        "on regexp_matches(lower(coalesce(g.name, t.gpu_model)), s.name_pattern) where trace_id = ? group by 1",
        [trace_id],
    )
    return {index: (model, float(peak)) for index, model, peak in rows}


def _links(
    lake: Lake, trace_id: str, gpu: int | None, start_ns: int, end_ns: int, bucket_ms: float
) -> dict[int, LinkMap]:
    """Mean rate of each link, from its own counter reads: an interval's bytes spread evenly over the columns it meets."""
    width = max(round(bucket_ms * 1e6), -(-(end_ns - start_ns) // _LINK_COLUMNS))
    table = lake.con.execute(
        """
        with reads as (
            select * from lake.raw.nvlink_samples
            where trace_id = $trace and link_id is not null and gpu_index = coalesce($gpu, gpu_index)
            qualify lead(sampled_ns) over (
                partition by gpu_index, link_id, direction order by sampled_ns, host_ns
            ) is distinct from sampled_ns
        ),
        intervals as (
            select
                gpu_index, link_id, lag(sampled_ns) over series as a, sampled_ns as b,
                (counter_kib - lag(counter_kib) over series) * 1024 as bytes
            from reads
            window series as (partition by gpu_index, link_id, direction order by sampled_ns)
        ),
        placed as (
            select *, greatest(a, $start) - $start as from_ns, least(b, $end) - $start as to_ns
            from intervals where bytes >= 0 and b > $start and a < $end
        ),
        pieces as (
            select *, unnest(range(from_ns // $width, (to_ns - 1) // $width + 1)) as col from placed
        )
        select
            gpu_index, link_id, col,
            sum(bytes * (least(to_ns, (col + 1) * $width) - greatest(from_ns, col * $width)) / (b - a)) / $width as gb_s
        from pieces group by all order by all
        """,
        {"trace": trace_id, "gpu": gpu, "start": start_ns, "end": end_ns, "width": width},
    ).fetchnumpy()
    columns = -(-(end_ns - start_ns) // width)
    found = {}
    for index in np.unique(table["gpu_index"]).tolist():
        rows = table["gpu_index"] == index
        links = np.unique(table["link_id"][rows])
        gb_s = np.full((len(links), columns), np.nan)
        gb_s[np.searchsorted(links, table["link_id"][rows]), table["col"][rows]] = table["gb_s"][rows]
        found[index] = LinkMap(links.tolist(), gb_s, width / 1e9)
    return found


# ---- drawing


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
    axis.fill_between(
        edges, 0, _broken(series, series.high, series.high), color=_BLUE, alpha=0.18, linewidth=0
    )
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
        np.ma.masked_invalid(links.gb_s), aspect="auto", origin="lower", cmap="viridis", vmin=0,
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
