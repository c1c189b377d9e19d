"""The older scripts' arithmetic, and zero against unknown, on traces small enough to follow by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ingest.build import build
from ingest.lake import Lake
from ingest.load import ingest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T0_US = 1_700_000_000_000_000
TX, RX, ALL_LINKS = 138, 139, 0xFFFFFFFF
NOT_SUPPORTED = 3
GOLDEN, LONE, PAIR, ALONE_OF_TWO = "golden", "lone", "pair", "alone-of-two"
REASON = "no polled GPU has an NVLink, but the trace has several GPUs"

# ms since the profile's start, KiB: a counter of one GPU, sending only. The counter falls at 1600 ms.
READS = [(0, 0), (5, 1_000_000), (15, 1_500_000), (25, 1_750_000), (1500, 1_750_000), (1600, 100_000), (3000, 350_000)]  # fmt: skip


def _markers(folder: Path, end_ms: int) -> None:
    for name, ms in (("start", 0), ("end", end_ms)):
        wall = (T0_US + ms * 1000) * 1000
        text = json.dumps({"name": f"profile_{name}", "wall_clock_ns": wall, "monotonic_ns": wall + 7})
        (folder / f"timing_profile_{name}.json").write_text(text)


def _kineto(folder: Path) -> None:
    """NCCL over the start of the profile, a GEMM in it, another one after its end."""
    kernels = [("ncclDevKernel_AllReduce", -10, 20), ("gemm", 100, 60), ("gemm", 2_000_000, 500)]
    events = [
        {"ph": "X", "cat": "kernel", "name": name, "pid": 0, "tid": 7, "ts": at, "dur": length,
         "args": {"device": 0, "stream": 7}}
        for name, at, length in kernels
    ]  # fmt: skip
    head = {"schemaVersion": 1, "baseTimeNanoseconds": T0_US * 1000}
    (folder / "rank0.pt.trace.json").write_text(json.dumps({**head, "traceEvents": events}))


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, card_text: str, nvf1_bytes: Callable[..., bytes]
) -> Callable[[str], list[dict[str, Any]]]:
    """Query a lake with the golden trace and three whose GPUs have no NVLink."""
    root = tmp_path_factory.mktemp("legacy")

    def counters(name: str, gpu: int, records: list[tuple[int, int, int, int, int]]) -> None:
        (root / name / f"nvlink_trace_gpu{gpu}.bin").write_bytes(nvf1_bytes(records))

    for name in (GOLDEN, LONE, PAIR, ALONE_OF_TWO):
        (root / name).mkdir()
        card = card_text.replace("total_count: 1", "total_count: 2") if name == ALONE_OF_TWO else card_text
        assert name != ALONE_OF_TWO or card != card_text
        (root / name / "card.yml").write_text(card)
        _markers(root / name, 1000)
    counters(GOLDEN, 0, [(TX, ALL_LINKS, T0_US + ms * 1000, kib, 0) for ms, kib in READS])
    _kineto(root / GOLDEN)
    refused = [
        (field, ALL_LINKS, T0_US + ms * 1000, 0, NOT_SUPPORTED) for ms in range(10) for field in (TX, RX)
    ]
    for name, gpus in ((LONE, 1), (PAIR, 2), (ALONE_OF_TWO, 1)):
        for gpu in range(gpus):
            counters(name, gpu, refused)
    with Lake.create(root / "lake") as lake:
        for name in (GOLDEN, LONE, PAIR, ALONE_OF_TWO):
            ingest(root / name, lake)
    build(root / "lake")

    def query(text: str) -> list[dict[str, Any]]:
        with Lake(root / "lake", read_only=True) as lake:
            columns, rows = lake.query(text)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    return query


def test_legacy_figures_are_those_of_the_hand(built: Callable[[str], list[dict[str, Any]]]) -> None:
    (row,) = built(f"from lake.marts.legacy_metrics where trace_id = '{GOLDEN}'")
    gb = [kib * 1024 / 1e9 for kib in (1_000_000, 500_000, 250_000, 0, 0, 250_000)]  # the reset counts as 0
    # Starts of 0 and 5 ms round to 0.00 s (half to even), that of 15 ms to 0.02 s.
    buckets = {0.00: gb[0] + gb[1], 0.02: gb[2], 1.60: gb[5]}
    total, seconds = sum(gb), 3.0  # the file's length, not the profile's
    peak = max(buckets.values()) / 0.01
    assert (total, peak) == pytest.approx((2.048, 153.6))
    expected = {
        "trace_id": GOLDEN,
        "total_nvlink_gb": total,
        "peak_nvlink_gb_s": peak,
        "avg_nvlink_gb_s": total / seconds,
        "burst_intensity": peak / (total / seconds),
        "burst_duration_s": 0.01,  # one bucket above 60 GB/s
        "bw_usage_pct": 100 * total / seconds / 600,
        "prefill_avg_bw_gb_s": 1.792,  # what starts in the first second, by one second
        "decode_avg_bw_gb_s": 0.256 / 2,  # the rest, by the two seconds left
        "nccl_contribution_pct": 25.0,  # 20 of 80 us: whole kernels that touch the profile
    }
    assert row == pytest.approx(expected)


def test_our_own_figures_keep_to_the_window_and_leave_the_reset_out(
    built: Callable[[str], list[dict[str, Any]]],
) -> None:
    (row,) = built(f"from lake.marts.experiment_metrics where experiment = '{GOLDEN}'")
    assert row["total_nvlink_gb"] == pytest.approx(1.792)  # until 1000 ms
    assert row["avg_nvlink_gb_s"] == pytest.approx(1.792)
    assert row["peak_nvlink_gb_s"] == pytest.approx(1.024 / 0.005)
    assert row["bw_usage_pct"] == pytest.approx(100 * 1.792 / 900)
    assert row["nccl_contribution_pct"] == pytest.approx(100 * 10 / 70)  # clipped to the profile


def test_a_lone_gpu_without_nvlink_is_a_known_zero(built: Callable[[str], list[dict[str, Any]]]) -> None:
    (row,) = built(f"from lake.marts.experiment_metrics where experiment = '{LONE}'")
    names = ("total_nvlink_gb", "tx_nvlink_gb", "peak_nvlink_gb_s", "avg_nvlink_gb_s", "burst_duration_s", "bw_usage_pct")  # fmt: skip
    assert [row[name] for name in names] == [0] * len(names)
    assert row["polled_gpus"] == 1
    assert row["burst_intensity"] is None  # 0 / 0
    (why,) = built(
        f"select reason from lake.marts.metric_abstentions where trace_id = '{LONE}' and metric = 'burst_intensity'"
    )
    assert why["reason"] == "no NVLink traffic in the profile window"


@pytest.mark.parametrize("trace_id", [PAIR, ALONE_OF_TWO])
def test_several_gpus_without_nvlink_are_unknown_and_not_zero(
    trace_id: str, built: Callable[[str], list[dict[str, Any]]]
) -> None:
    (row,) = built(f"from lake.marts.experiment_metrics where experiment = '{trace_id}'")
    assert (row["total_nvlink_gb"], row["peak_nvlink_gb_s"], row["bw_usage_pct"]) == (None, None, None)
    reasons = built(
        "select distinct reason from lake.marts.metric_abstentions "
        f"where trace_id = '{trace_id}' and metric in ('total_nvlink_gb', 'peak_nvlink_gb_s', 'burst_duration_s')"
    )
    assert reasons == [{"reason": REASON}]


def test_a_trace_without_counters_has_no_legacy_figures(
    built: Callable[[str], list[dict[str, Any]]],
) -> None:
    for name in (LONE, PAIR):
        (row,) = built(f"from lake.marts.legacy_metrics where trace_id = '{name}'")
        assert [v for k, v in row.items() if k != "trace_id"] == [None] * 9
