"""Unpack an uploaded archive without trusting it.

Only regular files and folders come out, below the target, within limits on count, size and ratio, counted
on the bytes that really come out and not on what the archive's headers say.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Self

from ingest.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.bz2", ".zip")
_CHUNK = 1 << 20
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError,
           NotImplementedError, RuntimeError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold. ``ratio`` is unpacked ÷ packed, judged beyond ``ratio_from_bytes``."""

    files: int = 10_000
    total_bytes: int = 256 * 10**9
    ratio: float = 2_000.0
    ratio_from_bytes: int = 10**9
    free_bytes: int = 10**9  # stays free on the disk
    name_bytes: int = 1_024


DEFAULT_LIMITS = Limits()


def is_archive(path: Path) -> bool:
    """Whether the file is named or begins like an archive of a trace."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def archive_stem(path: Path) -> str:
    """Return the name without the archive's suffixes.

    >>> archive_stem(Path("up/qwen3-32b.v2.tar.zst"))
    'qwen3-32b.v2'
    """
    lower = path.name.lower()
    suffix = max((s for s in SUFFIXES if lower.endswith(s)), key=len, default="")
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def unpack(archive: Path, target: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Unpack ``archive`` below the existing folder ``target``.

    Raises :class:`ArchiveError` for anything that is broken, hostile or too large; what came out by then is
    left to the caller, who owns ``target``.
    """
    try:
        packed = archive.stat().st_size
        with archive.open("rb") as file:
            head = file.read(6)
        account = _Account(archive, packed, limits, target)
        members = _zip_members if head[:2] == b"PK" else _tar_members
        for name, is_folder, stream in members(archive, head, account):
            place = target / _safe_name(archive, name, limits)
            if is_folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            account.file()
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                raise ArchiveError(archive.name, f"two members are named {_shown(name)}.", "pack it anew.")
            with place.open("xb") as out:
                while chunk := stream.read(_CHUNK):
                    account.bytes(len(chunk))
                    out.write(chunk)
    except ArchiveError:
        raise
    except OSError as exc:
        if exc.errno is not None:  # the disk's error, not the archive's
            raise ArchiveError(
                archive.name,
                f"cannot unpack: {exc.strerror}.",
                "is there room in the temporary folder (TMPDIR)?",
            ) from exc
        raise ArchiveError(archive.name, f"the archive is broken: {exc}.", "upload it anew.") from exc
    except _BROKEN as exc:
        raise ArchiveError(archive.name, f"the archive is broken: {exc}.", "upload it anew.") from exc


class _Account:
    """Counts what comes out of an archive against the limits."""

    def __init__(self, archive: Path, packed: int, limits: Limits, target: Path) -> None:
        self.name, self.packed, self.limits = archive.name, max(packed, 1), limits
        self.files = self.total = 0
        self.most = min(limits.total_bytes, shutil.disk_usage(target).free - limits.free_bytes)

    def file(self) -> None:
        self.files += 1
        if self.files > self.limits.files:
            raise ArchiveError(self.name, f"more than {self.limits.files} files.", "is it one trace?")

    def bytes(self, count: int) -> None:
        self.total += count
        if self.total > self.most:
            raise ArchiveError(
                self.name,
                f"it unpacks to more than {self.most} bytes.",
                "unpack it yourself and ingest the folder.",
            )
        if self.total > self.limits.ratio_from_bytes and self.total / self.packed > self.limits.ratio:
            raise ArchiveError(
                self.name,
                f"it unpacks to over {self.limits.ratio:.0f} times its size.",
                "unpack it yourself and ingest the folder.",
            )


def _tar_members(archive: Path, head: bytes, account: _Account) -> Iterator[tuple[str, bool, IO[bytes]]]:
    with _decompressed(archive, head) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
        for member in tar:
            if member.isdir():
                account.file()
                yield member.name, True, raw
            elif member.isreg():
                stream = tar.extractfile(member)
                if stream is not None:
                    yield member.name, False, stream
            else:
                kind = "link" if member.issym() or member.islnk() else "device or special file"
                raise ArchiveError(
                    archive.name, f"member {_shown(member.name)} is a {kind}.", "pack plain files only."
                )


def _zip_members(archive: Path, head: bytes, account: _Account) -> Iterator[tuple[str, bool, IO[bytes]]]:
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            mode = info.external_attr >> 16
            if mode & 0o170000 not in (0, 0o100000, 0o040000):
                raise ArchiveError(
                    archive.name,
                    f"member {_shown(info.filename)} is a link or special file.",
                    "pack plain files only.",
                )
            if info.is_dir():
                account.file()
                yield info.filename, True, archive.open("rb")
                continue
            if info.flag_bits & 1:
                raise ArchiveError(
                    archive.name,
                    f"member {_shown(info.filename)} is encrypted.",
                    "pack it without a password.",
                )
            with bundle.open(info) as stream:
                yield info.filename, False, stream


def _decompressed(archive: Path, head: bytes) -> IO[bytes]:
    openers: list[tuple[bytes, Callable[[Path], Any]]] = [
        (b"\x1f\x8b", gzip.open),
        (b"\xfd7zXZ", lzma.open),
        (b"BZh", bz2.open),
        (b"\x28\xb5\x2f\xfd", _open_zstd),
    ]
    for magic, opener in openers:
        if head.startswith(magic):
            stream: IO[bytes] = opener(archive)
            return stream
    return archive.open("rb")


def _open_zstd(path: Path) -> IO[bytes]:
    import zstandard

    class Reader:
        """Translates zstd's error class into one that callers of this module expect."""

        def __init__(self) -> None:
            self._file = path.open("rb")
            # 128 MiB: what `zstd --long` writes without a flag for the reader; more is a bomb's window.
            self._inner = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                self._file, read_across_frames=True
            )

        def read(self, size: int = -1) -> bytes:
            try:
                return bytes(self._inner.read(size))
            except zstandard.ZstdError as exc:
                raise ValueError(str(exc)) from exc

        def close(self) -> None:
            self._inner.close()  # type: ignore[no-untyped-call]
            self._file.close()

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    return Reader()  # type: ignore[return-value]


def _safe_name(archive: Path, name: str, limits: Limits) -> str:
    """Return the member's relative path, or raise where it would lead out of the target."""
    pure = PurePosixPath(name)
    hint = "pack it relative to the trace's folder."
    if len(name.encode("utf-8", "surrogateescape")) > limits.name_bytes:
        raise ArchiveError(archive.name, f"member {_shown(name)}: the name is too long.", hint)
    if pure.is_absolute() or name.startswith("\\") or name[1:2] == ":":
        raise ArchiveError(archive.name, f"member {_shown(name)} has an absolute path.", hint)
    if ".." in pure.parts or "\\" in name or "\0" in name:
        raise ArchiveError(archive.name, f"member {_shown(name)} leads out of the archive.", hint)
    return str(pure)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "…")
