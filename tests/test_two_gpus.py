"""The workloads behind docs/accuracy.md: their arithmetic and their journals, without a GPU or PyTorch."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.formats import guess_format
from ingest.formats.base import Reading, Source

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def _load(name: str) -> ModuleType:
    path = ROOT / "benchmarks" / "workloads" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"workloads_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    return _load("shapes")


@pytest.fixture(scope="module")
def journal() -> ModuleType:
    return _load("journal")


@pytest.mark.parametrize(
    ("name", "billions"), [("qwen3-32b", 32.8), ("qwen3-30b-a3b", 30.5), ("llama3.1-8b", 8.0)]
)
def test_shapes_have_the_parameters_of_their_models(shapes: ModuleType, name: str, billions: float) -> None:
    assert shapes.SHAPES[name].parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_tensor_parallel_step_sends_two_all_reduces_a_layer(shapes: ModuleType) -> None:
    reduce, gather = shapes.tp_step_payloads(shapes.SHAPES["qwen3-32b"], 4096, 4, 2)
    assert reduce == ("all_reduce", 41_943_040, 129)
    assert gather == ("all_gather", 607_744, 1)


def test_a_ring_of_two_sends_an_all_reduce_once_and_of_four_one_and_a_half_times(shapes: ModuleType) -> None:
    assert shapes.sent_by_ring("all_reduce", 1000, 2) == 1000
    assert shapes.sent_by_ring("all_reduce", 1000, 4) == 1500
    assert shapes.sent_by_ring("all_gather", 1000, 4) == 3000
    assert shapes.sent_by_ring("all_to_all", 1000, 4) == 1000


def test_a_journal_counts_collectives_in_steps_only_and_joins_repeats(
    journal: ModuleType, tmp_path: Path
) -> None:
    log = journal.Journal(1, 2)
    log.collective("all_reduce", 8)
    with log.step("decode", batch=0):
        for size in (8, 8, 16, 8):
            log.collective("all_reduce", size)
    (step,) = json.loads(log.write(tmp_path).read_text())["steps"]
    assert step["collectives"] == [["all_reduce", 8, 2], ["all_reduce", 16, 1], ["all_reduce", 8, 1]]
    assert step["end_monotonic"] - step["start_monotonic"] == step["end_wall"] - step["start_wall"] >= 0


def test_the_workloads_result_reads_as_one_of_vllms_client(journal: ModuleType, tmp_path: Path) -> None:
    requests = [journal.request(100.0, [100.5, 100.6, 100.9], 7), journal.request(100.0, [100.25], 7)]
    result = journal.benchmark_result(requests, model="m", backend="pytorch", duration=2.0, concurrency=2)
    path = tmp_path / "pytorch-infqps-concurrency2-m.json"
    path.write_text(json.dumps(result))
    source = Source(path, path.name)
    found = guess_format(source)
    assert found is not None
    assert found.name == "vllm_json"
    rows: dict[str, list[dict[str, Any]]] = {}
    for part in found.read(Reading(source, tmp_path)):
        rows.setdefault(part.table, []).extend(part.rows.to_pylist())
    (run,), by_request = rows["benchmark_runs"], rows["requests"]
    assert (run["mean_ttft_ms"], run["mean_tpot_ms"]) == (pytest.approx(375.0), pytest.approx(200.0))
    assert [r["start_clock"] for r in by_request] == ["monotonic", "monotonic"]
    assert [r["e2e_s"] for r in by_request] == [pytest.approx(0.9), pytest.approx(0.25)]
