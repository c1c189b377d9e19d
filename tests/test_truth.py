"""Every metric of a synthetic trace equals the truth that its generator worked out by itself."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from ingest.build import build
from ingest.lake import Lake
from ingest.load import ingest
from ingest.simulate import Burst, Scenario, simulate

if TYPE_CHECKING:
    from pathlib import Path


def test_every_metric_equals_the_truth_of_the_scenario(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic-llama-tp_2-batch_4"  # the scenario's own name
    scenario = Scenario(
        gpus=2, seconds=3.0, bursts=(Burst(1.0, 0.3, 200.0), Burst(2.0, 0.2, 80.0)), kernels=2000, requests=10
    )
    simulate(folder, scenario)
    truth = {m["metric"]: m["value"] for m in json.loads((folder / "truth.json").read_text())["metrics"]}
    with Lake.create(tmp_path / "lake") as lake:
        ingest(folder, lake)
    build(tmp_path / "lake")
    with Lake(tmp_path / "lake", read_only=True) as lake:
        cursor = lake.con.execute("select * from lake.marts.experiment_metrics")
        metrics = dict(zip([d[0] for d in cursor.description or []], cursor.fetchone() or (), strict=True))
    compared = truth.keys() & metrics.keys()
    assert len(compared) >= 35
    wrong = {
        name: (truth[name], metrics[name])
        for name in compared
        if truth[name] != metrics[name]
        and not (isinstance(truth[name], float) and math.isclose(truth[name], metrics[name], rel_tol=1e-6))
    }
    assert wrong == {}
