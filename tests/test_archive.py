"""An uploaded archive is not trusted."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from ingest.archive import Limits, archive_stem, is_archive, unpack
from ingest.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _member(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, io.BytesIO(data)


def _tar(path: Path, *members: tuple[tarfile.TarInfo, io.BytesIO], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, data)
    return path


def _zip_link(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        bundle.writestr(info, "/etc/passwd")
    return path


def _zip(path: Path, *names: str, data: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in names:
            bundle.writestr(name, data)
    return path


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-40])
    return path


def _zstd(path: Path, data: bytes) -> Path:
    import zstandard

    path.write_bytes(zstandard.ZstdCompressor().compress(data))
    return path


_NOISE = os.urandom(4000)
_HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "parent in tar": (lambda d: _tar(d / "a.tar", _member("../out")), "leads out of the archive"),
    "parent within": (lambda d: _tar(d / "a.tar", _member("t/../../out")), "leads out of the archive"),
    "parent in zip": (lambda d: _zip(d / "a.zip", "../out"), "leads out of the archive"),
    "absolute in tar": (lambda d: _tar(d / "a.tar", _member("/tmp/out")), "absolute path"),
    "absolute in zip": (lambda d: _zip(d / "a.zip", "/tmp/out"), "absolute path"),
    "drive letter": (lambda d: _zip(d / "a.zip", "C:/out"), "absolute path"),
    "symlink": (lambda d: _tar(d / "a.tar", _member("l", b"", type=tarfile.SYMTYPE, linkname="/etc")), "is a link"),
    "hard link": (lambda d: _tar(d / "a.tar", _member("l", b"", type=tarfile.LNKTYPE, linkname="x")), "is a link"),
    "link in zip": (lambda d: _zip_link(d / "a.zip"), "is a link"),
    "device": (lambda d: _tar(d / "a.tar", _member("d", b"", type=tarfile.CHRTYPE)), "device or special file"),
    "fifo": (lambda d: _tar(d / "a.tar", _member("d", b"", type=tarfile.FIFOTYPE)), "device or special file"),
    "twice": (lambda d: _tar(d / "a.tar", _member("t/x"), _member("t/x")), "two members are named"),
    "long name": (lambda d: _tar(d / "a.tar", _member("n" * 2000)), "name is too long"),
    "no archive": (lambda d: (d / "a.tar", (d / "a.tar").write_bytes(b"hello" * 99))[0], "archive is broken"),
    "no zip": (lambda d: (d / "a.zip", (d / "a.zip").write_bytes(b"PK\3\4" * 99))[0], "archive is broken"),
    "empty": (lambda d: (d / "a.tar", (d / "a.tar").touch())[0], "archive is broken"),
    "cut gz": (lambda d: _cut(_tar(d / "a.tgz", _member("x", _NOISE), mode="w:gz")), "archive is broken"),
    "cut xz": (lambda d: _cut(_tar(d / "a.txz", _member("x", _NOISE), mode="w:xz")), "archive is broken"),
    "cut zip": (lambda d: _cut(_zip(d / "a.zip", "x", data=_NOISE)), "archive is broken"),
    "zstd of no tar": (lambda d: _zstd(d / "a.tar.zst", b"hello" * 999), "archive is broken"),
    "broken zstd": (lambda d: (p := _zstd(d / "a.tar.zst", b"0" * 9999), p.write_bytes(p.read_bytes()[:9] + b"\xff" * 9))[0], "archive is broken"),
}  # fmt: skip


@pytest.mark.parametrize("case", _HOSTILE)
def test_a_hostile_or_broken_archive_is_refused_and_writes_nothing_outside(case: str, tmp_path: Path) -> None:
    build, message = _HOSTILE[case]
    (tmp_path / "box").mkdir()
    target = tmp_path / "box" / "target"
    target.mkdir()
    archive = build(tmp_path)
    with pytest.raises(ArchiveError, match=message) as error:
        unpack(archive, target)
    assert archive.name in str(error.value)
    assert "Hint: " in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([archive.name, "box"])
    assert [p.name for p in (tmp_path / "box").iterdir()] == ["target"]
    assert not any(p.is_symlink() for p in target.rglob("*"))


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_bomb_is_stopped_by_what_comes_out_not_by_what_its_headers_say(kind: str, tmp_path: Path) -> None:
    zeros = b"\0" * 3_000_000
    if kind == "zip":
        bomb = _zip(tmp_path / "b.zip", "x", data=zeros)
    else:
        bomb = _tar(tmp_path / "b.tgz", _member("x", zeros), mode="w:gz")
    for limits, message in (
        (Limits(ratio=100, ratio_from_bytes=1_000_000), "over 100 times its size"),
        (Limits(total_bytes=2_000_000), "more than 2000000 bytes"),
    ):
        target = tmp_path / message
        target.mkdir()
        with pytest.raises(ArchiveError, match=message):
            unpack(bomb, target, limits)
        assert sum(p.stat().st_size for p in target.rglob("*")) < 2_100_000
    unpack(bomb, tmp_path, Limits())  # by the usual limits it is no bomb
    assert (tmp_path / "x").stat().st_size == 3_000_000


def test_an_archive_of_too_many_files_or_folders_is_stopped(tmp_path: Path) -> None:
    for name, members in (
        ("files", [_member(f"f{i}") for i in range(5)]),
        ("folders", [_member(f"d{i}", b"", type=tarfile.DIRTYPE) for i in range(5)]),
    ):
        target = tmp_path / name
        target.mkdir()
        with pytest.raises(ArchiveError, match="more than 4 files"):
            unpack(_tar(tmp_path / f"{name}.tar", *members), target, Limits(files=4))


def test_a_full_temporary_folder_is_told_apart_from_a_broken_archive(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", _member("x", b"y" * 1000))
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        unpack(archive, tmp_path, Limits(free_bytes=10**18))


def test_modes_and_owners_of_members_are_not_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.mkdir()
    unpack(_tar(tmp_path / "a.tar", _member("x", mode=0o4777, uid=12345)), target)
    found = (target / "x").stat()
    assert found.st_mode & 0o7111 == 0
    assert found.st_uid == os.getuid()


def test_archives_are_told_by_their_ending_in_any_case(tmp_path: Path) -> None:
    for name, stem in (("a.v1.TAR.GZ", "a.v1"), ("b.zip", "b"), ("c.tar.zst", "c"), ("d.tar", "d")):
        (tmp_path / name).touch()
        assert is_archive(tmp_path / name)
        assert archive_stem(tmp_path / name) == stem
    (tmp_path / "x.bin").touch()
    (tmp_path / "folder.zip").mkdir()
    assert not is_archive(tmp_path / "x.bin")
    assert not is_archive(tmp_path / "folder.zip")
