"""The generator's files say what its truth says."""

from __future__ import annotations

import itertools
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.cli.simulate import simulate as command
from ingest.errors import TraceError, UnknownFormatError, UsageError
from ingest.formats import guess_format
from ingest.formats.base import Reading, Source
from ingest.formats.nvf1 import Nvf1
from ingest.simulate import Burst, Reset, Scenario, Stall, Truth, simulate
from ingest.simulate.truth import _sweep

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"seconds": 0.5, "requests": 4, "kernels": 200}


def samples(path: Path) -> tuple[pa.Table, Reading]:
    reading = Reading(Source(path, path.name), path.parent)
    batches = [b.rows for b in Nvf1().read(reading) if b.table == "nvlink_samples"]
    return pa.Table.from_batches(batches), reading


def bytes_in_window(table: pa.Table, start: int, stop: int) -> float:
    """Clip every interval to the window, one by one: slow and plain."""
    series: dict[Any, list[tuple[int, int]]] = {}
    for row in table.to_pylist():
        series.setdefault((row["link_id"], row["direction"]), []).append(
            (row["sampled_ns"], row["counter_kib"])
        )
    total = 0.0
    for reads in series.values():
        for (t0, c0), (t1, c1) in itertools.pairwise(reads):
            inside = max(min(t1, stop) - max(t0, start), 0)
            if c1 >= c0:
                total += (c1 - c0) * 1024 * inside / (t1 - t0)
    return total


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(**SMALL),
        Scenario(**SMALL, links=3, gpus=1),
        Scenario(
            **SMALL, resets=(Reset(0, 0.21), Reset(1, 0.3)), failed_reads=0.05, stalls=(Stall(0.1, 0.02),)
        ),
    ],
    ids=["summed", "per_link", "faults"],
)
def test_bytes_read_back_equal_the_truth(tmp_path: Path, scenario: Scenario) -> None:
    truth = simulate(tmp_path / "t", scenario)
    start, stop = truth.facts["profile_start_ns"], truth.facts["profile_end_ns"]
    total, written, skipped = 0.0, 0, 0
    for gpu in range(scenario.gpus):
        table, reading = samples(tmp_path / "t" / f"nvlink_trace_gpu{gpu}.bin")
        total += bytes_in_window(table, start, stop)
        written += len(table)
        skipped += sum(s.rows for s in reading.skips.values() if s.action == "skipped")
        assert not any(
            s.code in ("time_runs_backward", "zero_length_interval") for s in reading.skips.values()
        )
    assert total / 1e9 == pytest.approx(truth.metrics["total_nvlink_gb"], rel=1e-9)
    assert truth.metrics["total_nvlink_gb"] > 1
    assert written + skipped == truth.facts["nvlink_records"]
    assert skipped == truth.facts["failed_reads"]


def test_resets_are_seen_by_the_reader_and_counted_in_the_truth(tmp_path: Path) -> None:
    truth = simulate(tmp_path / "t", Scenario(**SMALL, resets=(Reset(0, 0.2),)))
    _, reading = samples(tmp_path / "t" / "nvlink_trace_gpu0.bin")
    assert reading.skips["nvlink_samples", "counter_reset"].rows == truth.facts["counter_resets"] == 2


def test_a_burst_gives_the_bytes_it_was_asked_for(tmp_path: Path) -> None:
    scenario = Scenario(
        **SMALL, gpus=2, jitter=0, bursts=(Burst(0.2, 0.1, 100.0, "tx"), Burst(0.25, 0.1, 50.0, "rx", gpu=1))
    )
    metrics = simulate(tmp_path / "t", scenario).metrics
    assert metrics["tx_nvlink_gb"] == pytest.approx(2 * 10, abs=1e-5)
    assert metrics["rx_nvlink_gb"] == pytest.approx(5, abs=1e-5)
    assert metrics["peak_nvlink_gb_s"] == pytest.approx(150, rel=1e-4)
    # GPU 0 bursts 100 ms; GPU 1 100 ms and then 50 ms of reception alone.
    assert metrics["burst_duration_s"] == pytest.approx((0.1 + 0.15) / 2, abs=1e-9)
    assert metrics["bw_usage_pct"] == pytest.approx(100 * metrics["avg_nvlink_gb_s"] / 900)


def kernel_rows(path: Path) -> list[tuple[int, int, int, str]]:
    query = (
        "select k.start, k.end, k.globalPid, s.value from CUPTI_ACTIVITY_KIND_KERNEL k "
        "join StringIds s on s.id = k.shortName"
    )
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def test_kernel_truth_equals_a_walk_over_every_border(tmp_path: Path) -> None:
    truth = simulate(tmp_path / "t", Scenario(**SMALL))
    with closing(sqlite3.connect(tmp_path / "t" / "profile.sqlite")) as db:
        (session,) = db.execute("select utcEpochNs from TARGET_INFO_SESSION_START_TIME").fetchone()
    window = [truth.facts[f"profile_{edge}_ns"] - session for edge in ("start", "end")]
    busy = nccl = comm = overlap = count = 0
    rows = kernel_rows(tmp_path / "t" / "profile.sqlite")
    for process in {row[2] for row in rows}:
        mine = [
            (max(a, window[0]), min(b, window[1]), name)
            for a, b, pid, name in rows
            if pid == process and b > window[0] and a < window[1]
        ]
        count += len(mine)
        borders = sorted({t for a, b, _ in mine for t in (a, b)})
        for left, right in itertools.pairwise(borders):
            names = [name for a, b, name in mine if a <= left and right <= b]
            is_nccl = any(n.startswith("nccl") for n in names)
            is_comm = is_nccl or "cross_device_reduce_2stage" in names
            is_compute = any(not n.startswith(("nccl", "cross_device")) for n in names)
            length = right - left
            busy += length * bool(names)
            nccl += length * is_nccl
            comm += length * is_comm
            overlap += length * (is_comm and is_compute)
    metrics = truth.metrics
    assert count == truth.facts["kernels_in_window"] < truth.facts["kernels"] == len(rows)
    assert busy / 1e9 == pytest.approx(metrics["gpu_active_s"], rel=1e-12)
    assert 100 * nccl / busy == pytest.approx(metrics["nccl_contribution_pct"], rel=1e-12)
    assert 100 * comm / busy == pytest.approx(metrics["comm_contribution_pct"], rel=1e-12)
    assert 100 * overlap / comm == pytest.approx(metrics["comm_compute_overlap_pct"], rel=1e-12)
    assert metrics["nccl_contribution_pct"] < metrics["comm_contribution_pct"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["prefill", "decode"]), st.integers(0, 30), st.integers(0, 30)), max_size=8
    )
)
@settings(max_examples=50, deadline=None)
def test_phase_windows_equal_a_tick_by_tick_count(ranges: list[tuple[str, int, int]]) -> None:
    got = {
        name: {t for a, b in pairs for t in range(a, b)} for name, pairs in _sweep(ranges, (3, 25)).items()
    }
    want: dict[str, set[int]] = {"prefill": set(), "decode": set(), "mixed": set()}
    for t in range(3, 25):
        names = {p for p, a, b in ranges if a <= t < b}
        if names:
            want["mixed" if len(names) == 2 else names.pop()].add(t)
    assert got == want


def test_benchmark_figures_follow_from_its_own_arrays(tmp_path: Path) -> None:
    truth = simulate(tmp_path / "t", Scenario(**SMALL, failed_requests=1))
    result = json.loads((tmp_path / "t" / "vllm-infqps-synthetic.json").read_text())
    good = [i for i, error in enumerate(result["errors"]) if not error]
    assert len(good) == result["completed"] == 3
    ttft = [result["ttfts"][i] * 1e3 for i in good]
    tpot = [sum(result["itls"][i]) * 1e3 / (result["output_lens"][i] - 1) for i in good]
    assert truth.metrics["mean_ttft_ms"] == pytest.approx(np.mean(ttft))
    assert truth.metrics["p99_tpot_ms"] == pytest.approx(np.percentile(tpot, 99))
    assert truth.metrics["total_output_tokens"] == sum(result["output_lens"][i] for i in good)


def test_monotonic_starts_differ_from_epoch_ones_by_the_marker_offset(tmp_path: Path) -> None:
    starts = []
    for clock in ("epoch", "monotonic"):
        simulate(tmp_path / clock, Scenario(**SMALL, start_clock=clock))  # type: ignore[arg-type]
        result = json.loads((tmp_path / clock / "vllm-infqps-synthetic.json").read_text())
        starts.append(result["start_times"][0])
    marker = json.loads((tmp_path / "epoch" / "timing_profile_start.json").read_text())
    offset = (marker["wall_clock_ns"] - marker["monotonic_ns"]) / 1e9
    assert starts[0] - starts[1] == pytest.approx(offset, abs=1e-6)


def test_everything_that_can_say_so_says_it_is_synthetic(tmp_path: Path) -> None:
    simulate(tmp_path / "t", Scenario(**SMALL))
    for path in (tmp_path / "t").glob("*.json"):
        assert json.loads(path.read_text())["synthetic"] is True, path.name
    card = next((tmp_path / "t").glob("*.yaml"))
    assert "description: 'Synthetic" in card.read_text()
    with closing(sqlite3.connect(tmp_path / "t" / "profile.sqlite")) as db:
        assert dict(db.execute("select name, value from META_DATA_EXPORT"))["SYNTHETIC"] == "true"


def test_the_formats_read_every_file_but_the_truth(tmp_path: Path) -> None:
    simulate(tmp_path / "t", Scenario(**SMALL))
    taken = {}
    for path in sorted((tmp_path / "t").iterdir()):
        try:
            taken[path.name] = guess_format(Source(path, path.name)).name
        except UnknownFormatError:
            taken[path.name] = None
    assert [name for name, form in taken.items() if form is None] == ["truth.json"]
    assert sorted(form for form in taken.values() if form not in (None, "nvf1", "markers")) == [
        "card",
        "metadata",
        "nsys_sqlite",
        "vllm_json",
    ]


def test_same_scenario_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    def content(name: str, seed: int) -> tuple[bytes, Truth]:
        truth = simulate(tmp_path / name, Scenario(**SMALL, seed=seed))
        return (tmp_path / name / "nvlink_trace_gpu1.bin").read_bytes(), truth

    first, again, other = content("a", 1), content("b", 1), content("c", 2)
    assert first == again
    assert first[0] != other[0]


def test_records_option_sets_the_number_of_records(tmp_path: Path) -> None:
    assert simulate(tmp_path / "t", Scenario(records=4800, links=2, requests=0, kernels=0)).facts[
        "nvlink_records"
    ] == pytest.approx(4800)


def test_nothing_is_written_over_a_trace(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "card.yml").write_text("")
    with pytest.raises(TraceError, match="not an empty directory"):
        simulate(tmp_path / "t", Scenario(**SMALL))


def test_a_scenario_without_room_for_a_window_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no profile window"):
        simulate(tmp_path / "t", Scenario(seconds=0.05))
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    "bad", [{"gpus": 0}, {"jitter": 2.0}, {"resets": (Reset(9, 1.0),)}, {"overlap": 1.0}]
)
def test_impossible_scenarios_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"scenario: {next(iter(bad))}"):
        Scenario(**bad)


def test_the_command_takes_bursts_and_resets(tmp_path: Path) -> None:
    words = [str(tmp_path / "t"), "--seconds", "0.5", "--kernels", "0", "--requests", "0", "--no-nvtx"]
    result = CliRunner().invoke(command, [*words, "--burst", "0.2:0.1:40:tx", "--reset", "0:0.4"])
    assert result.exit_code == 0, result.output
    truth = json.loads((tmp_path / "t" / "truth.json").read_text())
    values = {m["metric"]: m["value"] for m in truth["metrics"]}
    assert values["tx_nvlink_gb"] == pytest.approx(8, abs=1e-3)
    assert truth["facts"]["counter_resets"] == 2  # TX and RX
    assert not (tmp_path / "t" / "profile.sqlite").exists()


def test_a_malformed_burst_is_refused_with_an_example(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "t"), "--burst", "soon"])
    assert isinstance(result.exception, UsageError)
    assert "for example --burst" in str(result.exception)
