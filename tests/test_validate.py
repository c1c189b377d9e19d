"""`tracelake validate` reads as ingest does and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from click.testing import CliRunner

from ingest.cli import cli

SAMPLES = Path(__file__).parent / "data" / "traces"


def test_a_good_trace_is_accepted_and_no_lake_is_made(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    done = CliRunner().invoke(
        cli, ["--lake", str(lake), "validate", str(SAMPLES / "cuda-graph-tp_1"), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["verdict"] == "accepted"
    assert json.loads(done.stdout)[0]["rows"] > 50
    assert not lake.exists()


def test_a_trace_without_a_card_is_refused_with_a_remedy(tmp_path: Path) -> None:
    bad = tmp_path / "no-card"
    shutil.copytree(SAMPLES / "cuda-graph-tp_1", bad)
    (bad / "cuda-graph-tp_1.yaml").unlink()
    done = CliRunner().invoke(cli, ["validate", str(bad), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["verdict"] == "refused"
    assert "there is no workload card" in done.stderr
    assert "card new" in done.stderr
