"""The session in the README is what a stranger sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _session() -> list[tuple[str, str]]:
    """(command, output) of the README's session block."""
    block = re.search(r"```session\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block, "the README has no session"
    steps = re.split(r"^\$ ", block.group(1), flags=re.MULTILINE)[1:]
    return [(step.split("\n", 1)[0], step.split("\n", 1)[1].strip("\n")) for step in steps]


def _still(text: str) -> str:
    """Blot out what differs from run to run."""
    text = re.sub(r"\d+\.\d s\b", "N s", text.strip("\n"))
    return re.sub(r"\d+ data tests\b", "N data tests", text)


def test_the_session_prints_what_the_readme_shows(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TRACELAKE_LAKE": str(tmp_path / "lake"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    steps = _session()
    assert len(steps) >= 4
    for command, shown in steps:
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert _still(done.stderr + done.stdout) == _still(shown), command


def test_every_mart_of_the_readme_is_a_model_and_the_other_way_round() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    models = {p.stem for p in (ROOT / "dbt_project" / "models" / "marts").glob("*.sql")}
    assert named == models
