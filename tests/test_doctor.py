"""`tracelake doctor`: what it finds in order, and what it must call broken."""

from __future__ import annotations

import json
import socket
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ingest.cli import cli, doctor
from ingest.contracts import contracts
from ingest.formats import FORMATS
from ingest.lake import Lake

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def good_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good") / "lake"
    Lake.create(root).close()
    return root


def _doctor(lake: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(cli, ["--lake", str(lake), "doctor", "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def _only(rows: list[dict[str, Any]], check: str) -> dict[str, Any]:
    (row,) = [row for row in rows if row["check"] == check]
    return row


def test_a_good_lake_is_in_order(good_lake: Path) -> None:
    code, rows = _doctor(good_lake)
    assert code == 0
    assert not [row for row in rows if row["status"] == "fail"]
    assert _only(rows, "lake")["detail"].endswith("0 traces, 0 of them built")
    assert _only(rows, "lake writable")["status"] == "ok"
    assert _only(rows, "dbt-core")["detail"] == metadata.version("dbt-core")
    assert _only(rows, "contracts")["detail"] == f"{len(contracts())} raw tables"


def test_no_lake_yet_is_a_note_and_none_is_made(tmp_path: Path) -> None:
    code, rows = _doctor(tmp_path / "none")
    assert code == 0
    assert _only(rows, "lake")["status"] == "note"
    assert list(tmp_path.iterdir()) == []


def test_a_broken_catalog_fails(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"this is no database" * 100)
    code, rows = _doctor(tmp_path)
    assert code == 1
    assert _only(rows, "lake")["status"] == "fail"


def test_a_broken_lake_file_fails_without_hiding_the_other_checks(tmp_path: Path) -> None:
    (tmp_path / "lake.yml").write_text("catalogue: x\n", encoding="utf-8")
    code, rows = _doctor(tmp_path)
    assert code == 1
    assert "catalogue" in _only(rows, "lake")["detail"]
    assert _only(rows, "free disk")["status"] != "fail"


def test_a_remote_lake_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lake.yml").write_text(
        "catalog: 'postgres:dbname=lake host=nowhere.invalid'\n", encoding="utf-8"
    )

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a remote lake was opened")

    monkeypatch.setattr(Lake, "__init__", refuse)
    code, rows = _doctor(tmp_path)
    assert code == 0
    assert _only(rows, "lake")["status"] == "note"


def test_a_missing_extension_fails_and_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.duck._wheel_binaries", lambda name: iter(()))
    monkeypatch.setattr(
        "ingest.duck._DEFAULTS", {"home_directory": str(tmp_path), "extension_directory": str(tmp_path)}
    )
    code, rows = _doctor(tmp_path / "none")
    assert code == 1
    assert _only(rows, "extension ducklake")["status"] == "fail"
    assert "pip install duckdb-extension-ducklake" in _only(rows, "extension ducklake")["detail"]
    assert _only(rows, "extension httpfs")["status"] == "note"
    assert (
        "http" not in _only(rows, "extension ducklake")["detail"]
    )  # an address would mean that it asked there


def test_an_unfit_version_and_a_missing_package_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "zstandard":
            raise metadata.PackageNotFoundError(name)
        return "1.12.0" if name == "dbt-core" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    code, rows = _doctor(tmp_path)
    assert code == 1
    detail = _only(rows, "packages")["detail"]
    assert "dbt-core<1.12,>=1.11 asked for, 1.12.0 found" in detail
    assert "zstandard>=0.23 is missing" in detail
    assert not [row for row in rows if row["check"] == "dbt-core"]


@pytest.mark.parametrize(
    ("free", "status", "code"), [(2**20, "fail", 1), (2**30, "note", 0), (2**40, "ok", 0)]
)
def test_too_little_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str, code: int
) -> None:
    class Usage:
        pass

    usage = Usage()
    usage.free = free  # type: ignore[attr-defined]
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    got, rows = _doctor(tmp_path)
    assert (got, _only(rows, "free disk")["status"]) == (code, status)


def test_the_optional_tools_are_only_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, rows = _doctor(tmp_path / "none")
    assert code == 0
    assert _only(rows, "nsys")["status"] == "note"


def test_the_network_is_left_alone(good_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("doctor looked at the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    code, rows = _doctor(good_lake)
    assert code == 0, [row for row in rows if row["status"] == "fail"]


def test_formats_are_listed_in_the_order_they_are_asked(tmp_path: Path) -> None:
    code, rows = _doctor(tmp_path, "--formats")
    assert code == 0
    assert [row["format"] for row in rows] == list(FORMATS)
    assert [row["priority"] for row in rows] == sorted(row["priority"] for row in rows)
    assert all(row["summary"] for row in rows)
    assert {t for row in rows for t in row["tables"].split(", ") if t} <= set(contracts())
