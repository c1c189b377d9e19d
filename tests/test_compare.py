"""`tracelake compare`: ratios, directions, what is refused and why, and groups by card fields."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.lake import Lake
from ingest.questions import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]
    Truth = dict[str, dict[str, Any]]
    Compared = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture
def compared(cli_run: Run, built_lake: Path) -> Callable[..., Compared]:
    """Compare in the built lake, or in the lake given; rows by metric and trace."""

    def run(*arguments: str, lake: Path = built_lake) -> Compared:
        code, out, err = cli_run("--lake", lake, "compare", *arguments, "--json")
        assert (code, err) == (0, "")
        rows = json.loads(out)
        found = {(r["metric"], r["trace_id"]): r for r in rows}
        assert len(found) == len(rows)
        return found

    return run


@pytest.fixture
def changed_lake(built_lake: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the built lake in which a statement was run."""

    def change(statement: str) -> Path:
        root = Path(shutil.copytree(built_lake, tmp_path / "changed"))
        with Lake(root) as lake:
            lake.con.execute(statement)
        return root

    return change


def test_every_metric_has_its_ratio_to_the_first_trace(
    compared: Callable[..., Compared], truth: Truth
) -> None:
    found = compared("base", "tp_4", "batch_8")
    assert [r["position"] for (m, _), r in found.items() if m == "peak_nvlink_gb_s"] == [1, 2, 3]
    for name in ("tp_4", "batch_8"):
        for metric in ("total_nvlink_gb", "mean_tpot_ms", "exposed_comm_s", "prefill_avg_bw_gb_s"):
            row = found[metric, name]
            assert row["value"] == pytest.approx(truth[name][metric])
            assert row["ratio"] == pytest.approx(truth[name][metric] / truth["base"][metric])
            assert (row["status"], row["reason"]) == ("compared", None)
    first = found["total_nvlink_gb", "base"]
    assert (first["status"], first["ratio"], first["verdict"], first["unit"]) == ("first", None, None, "GB")


def test_better_follows_the_catalogue_and_small_differences_are_none(
    compared: Callable[..., Compared], truth: Truth
) -> None:
    found = compared("base", "moe")
    # moe overlaps less, and is the same trace otherwise
    assert found["comm_compute_overlap_pct", "moe"]["verdict"] == "worse"  # higher is better
    assert found["exposed_comm_s", "moe"]["verdict"] == "worse"  # lower is better
    assert found["mean_tpot_ms", "moe"]["verdict"] == "same"
    assert found["peak_nvlink_gb_s", "moe"]["verdict"] is None  # no way is better
    back = compared("moe", "base")
    assert back["comm_compute_overlap_pct", "base"]["verdict"] == "better"
    assert back["exposed_comm_s", "base"]["verdict"] == "better"
    ratio = truth["sglang"]["mean_e2el_ms"] / truth["base"]["mean_e2el_ms"]
    off = abs(ratio - 1) * 100
    verdicts = [
        compared("base", "sglang", "--same-within", f"{off * factor}")["mean_e2el_ms", "sglang"]["verdict"]
        for factor in (0.9, 1.1)
    ]
    assert verdicts == ["worse" if ratio > 1 else "better", "same"]


def test_phases_from_another_source_are_refused_and_the_rest_is_compared(
    compared: Callable[..., Compared],
) -> None:
    found = compared("base", "by_requests")
    row = found["prefill_avg_bw_gb_s", "by_requests"]
    assert (row["status"], row["ratio"], row["verdict"]) == ("refused", None, None)
    assert row["reason"] == "other phase source: nvtx for base, requests for by_requests"
    assert row["value"] is not None
    assert found["total_nvlink_gb", "by_requests"]["status"] == "compared"
    # base has no mixed time, so there is nothing to hold the other against
    mixed = found["mixed_avg_bw_gb_s", "by_requests"]
    assert (mixed["status"], "no time of this phase" in mixed["reason"]) == ("first_abstains", True)


@pytest.mark.parametrize(
    ("setting", "label", "refused"),
    [
        ("bucket_ms", "other bucket width (ms)", {"peak_nvlink_gb_s", "burst_intensity", "burst_duration_s"}),
        ("burst_threshold_gb_s", "other burst threshold (GB/s)", {"burst_duration_s"}),
    ],
)
def test_other_settings_of_the_build_refuse_what_they_shape(
    setting: str,
    label: str,
    refused: set[str],
    compared: Callable[..., Compared],
    changed_lake: Callable[[str], Path],
) -> None:
    root = changed_lake(f"update lake.marts.built_traces set {setting} = 10 where trace_id = 'tp_4'")
    found = compared("base", "tp_4", lake=root)
    rows = {metric: r for (metric, trace), r in found.items() if r["status"] == "refused"}
    assert set(rows) == refused
    assert all(r["reason"].startswith(f"{label}: ") and "10.0 for tp_4" in r["reason"] for r in rows.values())


def test_another_gpu_model_leaves_nothing_to_compare(cli_run: Run, built_lake: Path) -> None:
    code, out, err = cli_run("--lake", built_lake, "compare", "base", "qwen3-8b-tp_1-batch_4")
    assert (code, out) == (1, "")
    assert "nothing can be compared: other GPU model: H100 for base, H200 for qwen3-8b-tp_1-batch_4" in err


def test_a_third_trace_of_another_model_is_refused_beside_the_others(
    compared: Callable[..., Compared],
) -> None:
    found = compared("base", "tp_4", "qwen3-8b-tp_1-batch_4")
    assert found["mean_tpot_ms", "tp_4"]["status"] == "compared"
    assert found["mean_tpot_ms", "qwen3-8b-tp_1-batch_4"]["status"] == "refused"


def test_an_unknown_gpu_model_matches_nothing(cli_run: Run, changed_lake: Callable[[str], Path]) -> None:
    root = changed_lake("update lake.marts.experiment_metrics set gpu_model = null where experiment <> 'moe'")
    code, _, err = cli_run("--lake", root, "compare", "base", "tp_4")
    assert code == 1
    assert "other GPU model: unknown for base, unknown for tp_4" in err


def test_traces_that_know_no_metric_in_common_are_told(cli_run: Run, built_lake: Path) -> None:
    graph, kineto = "cuda-graph-tp_1", "kineto-encoder-train"
    code, _, err = cli_run("--lake", built_lake, "compare", graph, kineto, "--metric", "peak_nvlink_gb_s")
    assert code == 1
    assert "nothing can be compared: the trace has no NVLink counter reads" in err


def test_zero_has_no_ratio_but_is_better_or_worse(
    compared: Callable[..., Compared], changed_lake: Callable[[str], Path]
) -> None:
    root = changed_lake(
        "update lake.marts.metric_values set value = 0 where trace_id = 'base' and metric = 'exposed_comm_s'"
    )
    row = compared("base", "tp_4", lake=root)["exposed_comm_s", "tp_4"]
    assert (row["status"], row["ratio"], row["verdict"]) == ("compared", None, "worse")


def test_people_see_letters_ratios_and_the_reasons_below(cli_run: Run, built_lake: Path) -> None:
    code, out, err = cli_run("--lake", built_lake, "compare", "base", "by_requests")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [x.split()[:2] for x in lines[2:4]] == [["A", "base"], ["B", "by_requests"]]
    (head,) = [x for x in lines if x.startswith("metric ")]
    assert head.split() == ["metric", "unit", "A", "B", "B/A", "B", "is"]
    (phase,) = [x for x in lines if x.startswith("prefill_avg_bw_gb_s ")]
    assert phase.endswith("refused")
    assert "B not comparable: other phase source: nvtx for base, requests for by_requests" in lines
    assert "A without: no time of this phase lies in the profile window" in lines


def test_csv_holds_the_same_rows_as_json(cli_run: Run, built_lake: Path) -> None:
    arguments = ["--lake", built_lake, "compare", "base", "tp_4", "--metric", "mean_ttft_ms"]
    rows = json.loads(cli_run(*arguments, "--json")[1])
    assert [r["trace_id"] for r in rows] == ["base", "tp_4"]
    read = list(csv.DictReader(io.StringIO(cli_run(*arguments, "--csv")[1])))
    assert read == [{k: "" if v is None else str(v) for k, v in r.items()} for r in rows]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["base", "tp_44"], 1, "tp_44: the lake holds no trace of this id.\nHint: known: tp_4"),
        (["base"], 2, "name at least two traces"),
        ([], 2, "name at least two traces"),
        (["base", "base"], 2, "named twice"),
        (["base", "--group-by", "tp"], 2, "takes no trace ids"),
        (["--group-by", "tp,batch"], 2, "no column 'batch'.\nHint: known: batch_size"),
        (["base", "tp_4", "--metric", "peak_nvlink"], 2, "no such metric.\nHint: known: peak_nvlink_gb_s"),
    ],
)
def test_wrong_words_say_what_is_off(
    arguments: list[str], code: int, message: str, cli_run: Run, built_lake: Path
) -> None:
    got, out, err = cli_run("--lake", built_lake, "compare", *arguments)
    assert (got, out) == (code, "")
    assert message in err


def test_a_lake_or_trace_not_built_yet_is_told(
    cli_run: Run, lake_root: Path, changed_lake: Callable[[str], Path]
) -> None:
    code, _, err = cli_run("--lake", lake_root, "compare", "a", "b")
    assert (code, "not built yet.\nHint: run `tracelake build`" in err) == (1, True)
    root = changed_lake("delete from lake.marts.built_traces where trace_id = 'tp_4'")
    code, _, err = cli_run("--lake", root, "compare", "base", "tp_4")
    assert (code, "tp_4: the trace was not built yet.\nHint: run `tracelake build`" in err) == (1, True)


def test_groups_by_card_fields_have_count_mean_min_median_and_max(
    cli_run: Run, built_lake: Path, truth: Truth
) -> None:
    arguments = ["compare", "--group-by", "tp, framework", "--metric", "mean_tpot_ms", "--json"]
    code, out, err = cli_run("--lake", built_lake, *arguments)
    assert (code, err) == (0, "")
    rows = {(r["tp"], r["framework"]): r for r in json.loads(out)}
    values = sorted(truth[n]["mean_tpot_ms"] for n in ("base", "batch_8", "moe", "by_requests"))
    row = rows[2, "vllm"]
    assert (row["traces"], row["known"], row["unit"], row["gpu_models"]) == (4, 4, "ms", "H100")
    assert row["mean"] == pytest.approx(sum(values) / 4)
    assert (row["min"], row["max"]) == pytest.approx((values[0], values[-1]))
    assert row["median"] == pytest.approx((values[1] + values[2]) / 2)
    single = rows[1, "pytorch"]  # qwen knows it; the graph and both training traces abstain
    assert (single["traces"], single["known"]) == (4, 1)
    assert (rows[2, "pytorch"]["known"], rows[2, "pytorch"]["mean"]) == (0, None)


def test_groups_show_the_headline_metrics_or_all(cli_run: Run, built_lake: Path) -> None:
    def metrics(*more: str) -> set[str]:
        _, out, _ = cli_run("--lake", built_lake, "compare", "--group-by", "phase", "--json", *more)
        return {r["metric"] for r in json.loads(out)}

    assert len(metrics()) == 5
    assert {"exposed_comm_s", "total_nvlink_gb"} < metrics("--metric", "all")


def test_the_sql_names_every_trace_once_and_orders_as_asked(built_lake: Path) -> None:
    with Lake(built_lake, read_only=True) as lake:
        columns, rows = ask(lake, "compare_traces", {"traces": json.dumps(["tp_4", "base"])})
        assert ask(lake, "summarise_by_card", {"group_by": "moe", "metrics": '["total_nvlink_gb"]'})[1]
    at = columns.index("trace_id")
    assert [row[at] for row in rows[:2]] == ["tp_4", "base"]
