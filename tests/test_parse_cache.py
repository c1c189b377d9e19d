"""What dbt has parsed is kept for the next new lake, and a cache that fails costs time only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest import parse_cache
from ingest.build import build, project_fingerprint
from ingest.lake import Lake
from ingest.load import ingest

if TYPE_CHECKING:
    from collections.abc import Callable

PARSED = "partial_parse.msgpack"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "tracelake"


def parsed(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / PARSED).write_text(content)
    return folder


def test_a_new_lake_takes_what_another_left_and_no_other_project_does(tmp_path: Path, cache: Path) -> None:
    parse_cache.leave(parsed(tmp_path / "one", "1"), "project")
    parse_cache.leave(parsed(tmp_path / "two", "2"), "project")
    new, other, own = tmp_path / "new", tmp_path / "other", parsed(tmp_path / "own", "own")
    parse_cache.take(new, "project")
    parse_cache.take(other, "another project")
    parse_cache.take(own, "project")
    assert (new / PARSED).read_text() == "2"
    assert not other.exists()
    assert (own / PARSED).read_text() == "own"
    assert cache.stat().st_mode & 0o077 == 0


def test_few_projects_are_kept(tmp_path: Path, cache: Path) -> None:
    for number in range(7):
        parse_cache.leave(parsed(tmp_path / str(number), "x"), f"project {number}")
    assert len(list(cache.iterdir())) == 4


def test_a_cache_nobody_can_write_or_find_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = parsed(tmp_path / "target", "1")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    parse_cache.leave(target, "project")
    parse_cache.take(tmp_path / "new", "project")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    parse_cache.leave(target, "project")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    parse_cache.leave(target, "project")
    parse_cache.take(tmp_path / "new", "project")
    assert not (tmp_path / "new").exists()
    assert not Path("relative").exists()


def test_a_broken_copy_does_a_build_no_harm_and_is_replaced_by_what_it_parsed(
    tmp_path: Path, cache: Path, make_trace: Callable[..., Path]
) -> None:
    parse_cache.leave(parsed(tmp_path / "broken", "no dbt wrote this"), project_fingerprint())
    (kept,) = cache.iterdir()
    with Lake.create(tmp_path / "lake") as lake:
        ingest(make_trace(tmp_path / "t"), lake)
    assert build(tmp_path / "lake").traces_built == ["t"]
    (target,) = (tmp_path / "lake").rglob(PARSED)
    assert kept.read_bytes() == target.read_bytes()
    assert kept.stat().st_size > 100_000
