"""The inbox loses nothing: not to a crash, not to a half-written upload, not to a name that is taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from ingest.errors import TraceError, ValidationError
from ingest.inbox import Inbox
from ingest.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.load import StagedTrace

    MakeTrace = Callable[..., Path]

_TRACELAKE = "import sys; from ingest.cli import main; main(sys.argv[1:])"


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    return folder


def _run(uploads: Path, lake_root: Path, **options: object) -> dict[str, str]:
    return {h.name: h.outcome for h in Inbox(uploads, lake_root, quiet_s=0, **options).run_once()}  # type: ignore[arg-type]


def _tar(folder: Path, out: Path) -> Path:
    with tarfile.open(out, "w:gz") as tar:
        tar.add(folder, folder.name)
    return out


def _ids(lake_root: Path) -> list[str]:
    with Lake(lake_root) as lake:
        return [t.trace_id for t in lake.traces()]


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_uploads_go_to_the_lake_and_to_accepted_or_with_a_report_to_rejected(
    make_trace: MakeTrace, uploads: Path, lake_root: Path, tmp_path: Path
) -> None:
    make_trace(uploads / "a")
    _tar(make_trace(tmp_path / "b"), uploads / "b.tar.gz")
    make_trace(uploads / "bad")
    (uploads / "bad" / "card.yml").unlink()
    (uploads / "bad" / "notes.env").write_text("HF_TOKEN=abcdefgh123\n")
    (uploads / "cut.tar.gz").write_bytes((uploads / "b.tar.gz").read_bytes()[:200])
    (uploads / "link").symlink_to(uploads / "a")
    (uploads / "notes.txt").write_text("no upload")
    assert _run(uploads, lake_root) == {
        "a": "ingested", "b.tar.gz": "ingested", "bad": "rejected", "cut.tar.gz": "rejected", "link": "rejected",
    }  # fmt: skip
    assert _ids(lake_root) == ["a", "b"]
    assert _names(uploads / "accepted") == ["a", "b.tar.gz"]
    assert _names(uploads / "rejected") == sorted(
        n + e for n in ("bad", "cut.tar.gz", "link") for e in ("", ".report.json")
    )
    assert [n for n in _names(uploads) if not n.startswith(".")] == ["accepted", "notes.txt", "rejected"]
    report = json.loads((uploads / "rejected" / "bad.report.json").read_text())
    assert report["kind"] == "CardError"
    assert "there is no workload card" in report["message"]
    assert "tracelake card new" in report["hint"]
    assert "the archive is broken" in (uploads / "rejected" / "cut.tar.gz.report.json").read_text()
    assert _run(uploads, lake_root) == {}


def test_the_same_upload_twice_is_one_trace_and_a_taken_name_gets_a_number(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    for expected in ("ingested", "unchanged", "unchanged"):
        make_trace(uploads / "a")
        assert _run(uploads, lake_root) == {"a": expected}
    assert _ids(lake_root) == ["a"]
    assert _names(uploads / "accepted") == ["a", "a-2", "a-3"]
    for number in ("", "-2"):
        make_trace(uploads / "a", slope=7)
        assert _run(uploads, lake_root) == {"a": "rejected"}
        report = json.loads((uploads / "rejected" / f"a{number}.report.json").read_text())
        assert "holds this id with other content" in report["message"]
    assert _names(uploads / "rejected") == ["a", "a-2", "a-2.report.json", "a.report.json"]


def test_names_of_archives_keep_their_ending(
    make_trace: MakeTrace, uploads: Path, lake_root: Path, tmp_path: Path
) -> None:
    trace = make_trace(tmp_path / "a")
    for _ in range(2):
        _tar(trace, uploads / "a.v1.tar.gz")
        _run(uploads, lake_root)
    assert _names(uploads / "accepted") == ["a.v1-2.tar.gz", "a.v1.tar.gz"]


@pytest.mark.parametrize(
    "name",
    [
        'it\'s "x"; drop table',
        "a[b]*%41 é",
        "x" * 250,
        "a\nb",
        "-rf",
        b"\xff\xfe".decode(errors="surrogateescape"),
    ],
)
def test_odd_names_are_moved_as_they_are(
    name: str, make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / name)
    outcome = _run(uploads, lake_root)[name]
    good = name.isprintable() and len(name) < 200
    assert outcome == ("ingested" if good else "rejected")
    assert _ids(lake_root) == ([name] if good else [])
    moved = _names(uploads / ("accepted" if good else "rejected"))
    assert (name if len(name) < 200 else moved[0]) in moved
    if not good:
        (report,) = (uploads / "rejected").glob("*.report.json")
        assert json.loads(report.read_text())["verdict"] == "rejected"


def test_an_upload_is_left_alone_until_it_is_quiet(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / "a")
    for path in [uploads / "a", *(uploads / "a").iterdir()]:
        os.utime(path, (1_000_000_000, 1_000_000_000))  # a copy may carry old times: they say nothing
    box = Inbox(uploads, lake_root, quiet_s=3600)
    assert [h.outcome for h in box.run_once()] == ["waiting"]
    assert _names(uploads) == ["a"]
    box.quiet_s = 1e-9  # seen unchanged for longer than that by now
    assert [h.outcome for h in box.run_once()] == ["ingested"]


@pytest.mark.parametrize(
    "name", ["a.tar.gz.part", ".a.tar.gz.x7Yq", "a.tar.gz.crdownload", "a.filepart", "a.TMP", "a~"]
)
def test_temporary_names_are_left_alone(
    name: str, make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / name)
    assert _run(uploads, lake_root) == {}
    assert _names(uploads) == [name]


def test_an_upload_that_grows_while_it_is_read_is_not_taken(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / "a")

    def grow(point: str) -> None:
        if point == "staged":
            (uploads / "a" / "late.json").write_text("{}")

    assert _run(uploads, lake_root, hook=grow) == {"a": "waiting"}
    assert _ids(lake_root) == []
    (uploads / "a" / "card.yml").unlink()

    def mend(point: str) -> None:
        if point == "found":
            (uploads / "a" / "more.json").write_text("{}")

    assert _run(uploads, lake_root, hook=mend) == {"a": "waiting"}  # refused, but it was not whole yet
    assert _names(uploads) == [".tracelake-inbox.lock", "a"]


def test_the_check_of_the_ingest_decides_and_its_words_are_in_the_report(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / "a")

    def check(staged: StagedTrace, lake: Lake) -> None:
        raise ValidationError(staged.trace.trace_id, "the clocks disagree by 7 s.", "sync them.")

    assert _run(uploads, lake_root, check=check) == {"a": "rejected"}
    report = json.loads((uploads / "rejected" / "a.report.json").read_text())
    assert (report["kind"], report["trace_id"], report["hint"]) == ("ValidationError", "a", "sync them.")


def test_secrets_of_an_upload_are_told_and_do_not_block(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / "a")
    (uploads / "a" / ".env").write_text("HF_TOKEN=abcdefgh123\n")
    (handled,) = Inbox(uploads, lake_root, quiet_s=0).run_once()
    assert handled.outcome == "ingested"
    assert [(s.path, s.key, s.count) for s in handled.secrets] == [(".env", "HF_TOKEN", 1)]


def test_trouble_of_the_lake_is_not_the_uploads(make_trace: MakeTrace, uploads: Path, tmp_path: Path) -> None:
    make_trace(uploads / "a")
    (tmp_path / "file").touch()
    assert _run(uploads, tmp_path / "file") == {"a": "failed"}
    assert _names(uploads) == [".tracelake-inbox.lock", "a"]


def test_a_fault_of_ours_stops_neither_the_others_nor_loses_the_upload(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / "a")
    make_trace(uploads / "b", gpu=1)

    def check(staged: StagedTrace, lake: Lake) -> None:
        if staged.trace.trace_id == "a":
            raise ZeroDivisionError("oops")

    box = Inbox(uploads, lake_root, quiet_s=0, check=check)
    assert {h.name: h.outcome for h in box.run_once()} == {"a": "failed", "b": "ingested"}
    assert list(box.run_once()) == []  # not again and again
    assert _run(uploads, lake_root) == {"a": "ingested"}


def test_no_folder_is_told(tmp_path: Path, lake_root: Path) -> None:
    with pytest.raises(TraceError, match="no such folder"):
        list(Inbox(tmp_path / "none", lake_root).run_once())


def test_what_cannot_be_moved_stays_and_is_told(
    make_trace: MakeTrace, uploads: Path, lake_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trace(uploads / "a")
    (uploads / "accepted").write_text("in the way")
    (handled,) = Inbox(uploads, lake_root, quiet_s=0).run_once()
    assert handled.outcome == "failed"
    assert "cannot be moved to accepted/" in handled.message
    assert _ids(lake_root) == ["a"]
    (uploads / "accepted").unlink()
    assert _run(uploads, lake_root) == {"a": "unchanged"}


_KILLED = """
import os, signal, sys
from ingest.inbox import Inbox
folder, lake, point = sys.argv[1:]
def hook(name):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)
print([h.outcome for h in Inbox(__import__("pathlib").Path(folder), lake, quiet_s=0, hook=hook).run_once()])
"""


@pytest.mark.parametrize("point", ["found", "staged", "committed", "reported", "moved"])
def test_a_run_that_is_killed_is_finished_by_the_next(
    point: str, make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / "t")
    rejected = point == "reported"
    if rejected:
        (uploads / "t" / "card.yml").unlink()
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(uploads), str(lake_root), point],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    committed = point in ("committed", "moved")
    assert _ids(lake_root) == (["t"] if committed else [])
    left = (uploads / "t").exists()
    assert left == (point != "moved")
    after = _run(uploads, lake_root)
    assert after == (
        {} if not left else {"t": "unchanged" if committed else "rejected" if rejected else "ingested"}
    )
    assert _ids(lake_root) == ([] if rejected else ["t"])
    where = "rejected" if rejected else "accepted"
    assert _names(uploads / where) == (["t", "t.report.json"] if rejected else ["t"])
    assert not (uploads / "t").exists()


def test_the_command_reports_and_watches_until_it_is_stopped(
    cli_run: Callable[..., tuple[int, str, str]], make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    make_trace(uploads / "a")
    make_trace(uploads / "bad")
    (uploads / "bad" / "card.yml").unlink()
    code, out, err = cli_run("--lake", lake_root, "inbox", uploads, "--quiet-for", "0", "--json")
    assert code == 1
    assert [(r["upload"], r["outcome"]) for r in json.loads(out)] == [("a", "ingested"), ("bad", "rejected")]
    assert "there is no workload card" in err
    watch = subprocess.Popen(
        [sys.executable, "-c", _TRACELAKE, "--lake", str(lake_root), "inbox", str(uploads),
         "--watch", "--quiet-for", "0.2", "--interval", "0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        make_trace(uploads.parent / "later").rename(uploads / "later")
        deadline = time.monotonic() + 60
        while not (uploads / "accepted" / "later").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert watch.returncode == 0, err
    assert "later: ingested" in out
    assert "stopped; what was not moved is taken up again" in err
    assert _ids(lake_root) == ["a", "later"]


def test_a_query_that_ctrl_c_broke_off_ends_the_inbox_and_is_no_fault(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise RuntimeError("Query interrupted")  # DuckDB's, in place of KeyboardInterrupt

    make_trace(uploads / "a")
    with pytest.raises(KeyboardInterrupt):
        list(Inbox(uploads, lake_root, quiet_s=0, check=interrupted).run_once())
    assert (uploads / "a").is_dir()


def test_two_inboxes_of_one_folder_take_each_upload_once(
    make_trace: MakeTrace, uploads: Path, lake_root: Path
) -> None:
    for i in range(3):
        make_trace(uploads / f"t{i}", slope=i + 1)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _TRACELAKE, "--lake", str(lake_root), "inbox", str(uploads), "--quiet-for", "0", "--json"],
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    taken = [r["upload"] for run in runs for r in json.loads(run.communicate(timeout=100)[0])]
    assert sorted(taken) == ["t0", "t1", "t2"]
    assert _names(uploads / "accepted") == ["t0", "t1", "t2"]
