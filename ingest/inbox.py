"""A folder that uploads fall into: each goes into the lake and to ``accepted/``, or with a report to ``rejected/``.

Nothing is remembered outside of the folders: a run that was killed at any point is finished by the next one. The
lake knows a trace that was committed and not yet moved, and a report without its upload is written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest import __version__
from ingest.archive import archive_stem, is_archive
from ingest.errors import LakeError, TraceError, TraceExistsError, TracelakeError, is_interrupt
from ingest.lake import Lake
from ingest.lake.lock import exclusive
from ingest.load import IngestResult, ingest
from ingest.scrub.detect import REMEDY, SecretFinding, find_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingest.load import StagedTrace

ACCEPTED, REJECTED = "accepted", "rejected"
REPORT = ".report.json"
# What browsers, scp, rsync, rclone and curl call a file that is still on its way; dot files are left alone too.
_UNFINISHED = (
    ".part",
    ".partial",
    ".tmp",
    ".temp",
    ".crdownload",
    ".download",
    ".filepart",
    ".incomplete",
    "~",
)
_LOCK = ".tracelake-inbox.lock"
_NAME_BYTES = 255


class _StillWrittenError(TracelakeError):
    """The upload changed while it was read."""


@dataclass
class Handled:
    """What became of one upload: ``ingested``, ``unchanged``, ``rejected``, ``waiting`` or ``failed``."""

    name: str
    outcome: str
    trace_id: str | None = None
    rows: int = 0
    place: Path | None = None  # where it lies now
    message: str = ""
    secrets: list[SecretFinding] = field(default_factory=list)


@dataclass
class Inbox:
    """The inbox in ``folder`` of the lake in ``lake``.

    An upload is taken when nothing of it changed for ``quiet_s`` seconds. ``check`` judges a staged trace as for
    :func:`ingest.load.ingest`. ``hook`` is called with the name of each point that a crash may fall on.
    """

    folder: Path
    lake: Path | str
    quiet_s: float = 30.0
    check: Callable[[StagedTrace, Lake], None] | None = None
    hook: Callable[[str], None] = lambda _: None
    _seen: dict[str, tuple[object, float]] = field(default_factory=dict)  # signature, and since when
    _failed: dict[str, object] = field(default_factory=dict)

    def run_once(self) -> Iterator[Handled]:
        """Take every upload that is quiet, in the order of their names, and say what became of each."""
        if not self.folder.is_dir():
            raise TraceError(self.folder, "there is no such folder.", "make it, and put uploads into it.")
        for entry in self._entries():
            signature = _signature(entry)
            if signature is None:
                continue  # gone: another process took it
            if self._failed.get(entry.name) == signature:
                continue
            if not self._is_quiet(entry, signature):
                yield Handled(
                    entry.name, "waiting", message="it changed a moment ago; left alone until it is quiet."
                )
                continue
            with exclusive(self.folder / _LOCK):
                if os.path.lexists(entry):
                    yield self._take(entry, signature)

    def watch(self, interval_s: float = 2.0) -> Iterator[Handled]:
        """Take uploads for ever; what stays as it is (an upload that waits, a full disk) is told of once."""
        told: dict[str, tuple[str, str]] = {}
        while True:
            for handled in self.run_once():
                news = (handled.outcome, handled.message)
                if told.get(handled.name) != news:
                    yield handled
                told[handled.name] = news
                if handled.place is not None:
                    del told[handled.name]
            time.sleep(interval_s)

    def _entries(self) -> list[Path]:
        return sorted(
            entry for entry in self.folder.iterdir()
            if entry.name not in (ACCEPTED, REJECTED)
            and not entry.name.startswith(".")
            and not entry.name.lower().endswith(_UNFINISHED)
            and (entry.is_symlink() or entry.is_dir() or is_archive(entry))
        )  # fmt: skip

    def _is_quiet(self, entry: Path, signature: _Signature) -> bool:
        """Whether nothing changed for a while: by the files' own times, or as this process saw it.

        The time of the last change to an inode counts, since copies may carry the old times of their content. A
        file server's clock may be ahead of ours; then what was seen counts.
        """
        now = time.monotonic()
        known, since = self._seen.get(entry.name, (None, now))
        if known != signature:
            self._seen[entry.name] = (signature, now)
            since = now
        return time.time() - signature.changed_ns / 1e9 >= self.quiet_s or now - since >= self.quiet_s > 0

    def _take(self, entry: Path, signature: _Signature) -> Handled:
        handled = Handled(entry.name, "rejected")
        try:
            try:
                result = self._ingest(entry, signature, handled)
            except TracelakeError as exc:
                if isinstance(exc, LakeError) and not isinstance(exc, TraceExistsError):
                    raise  # the lake's trouble (a full disk), not the upload's
                if isinstance(exc, _StillWrittenError) or _signature(entry) != signature:
                    return Handled(entry.name, "waiting", message="it changed while it was read.")
                self._reject(entry, handled, exc)
            else:
                self.hook("committed")
                handled.outcome, handled.trace_id = result.outcome, result.trace_id
                handled.rows = sum(result.rows.values())
                handled.place = self._move(entry, ACCEPTED, entry.name)
        except LakeError as exc:
            return Handled(entry.name, "failed", message=str(exc))
        except Exception as exc:
            if is_interrupt(exc):
                raise KeyboardInterrupt from exc
            # A fault of ours must not stop the others, nor throw the upload away: the next run tries again.
            self._failed[entry.name] = signature
            return Handled(
                entry.name, "failed", message=f"{type(exc).__name__}: {exc} (a fault of tracelake)"
            )
        self._seen.pop(entry.name, None)
        self.hook("moved")
        return handled

    def _ingest(self, entry: Path, signature: _Signature, handled: Handled) -> IngestResult:
        if entry.is_symlink():
            raise TraceError(
                entry.name, "a link, not a directory or an archive.", "upload the files themselves."
            )

        def check(staged: StagedTrace, lake: Lake) -> None:
            self.hook("staged")
            handled.trace_id = staged.trace.trace_id
            handled.secrets = find_secrets(staged.trace)
            if self.check is not None:
                self.check(staged, lake)
            if _signature(entry) != signature:
                raise _StillWrittenError(
                    entry.name, "it changed while it was read; left alone until it is quiet."
                )

        self.hook("found")
        with Lake.create(self.lake) as lake:
            return ingest(entry, lake, check=check)

    def _reject(self, entry: Path, handled: Handled, error: TracelakeError) -> None:
        name = _free_name(self.folder / REJECTED, entry.name)
        report = {
            "upload": _printable(entry.name), "trace_id": handled.trace_id, "verdict": "rejected",
            "kind": type(error).__name__, "message": str(error).split("\nHint: ")[0], "hint": error.hint,
            "secrets": [
                {"file": s.path, "table": s.place, "key": s.key, "values": s.count, "remedy": REMEDY}
                for s in handled.secrets
            ],
            "at": datetime.now(UTC).isoformat(timespec="seconds"), "tracelake_version": __version__,
        }  # fmt: skip
        self._write_report(name, report)
        self.hook("reported")
        handled.place = self._move(entry, REJECTED, name)
        handled.message = str(error)

    def _write_report(self, name: str, report: dict[str, Any]) -> None:
        """Write the report under its name at once, whole, before the upload is moved."""
        folder = self.folder / REJECTED
        part = folder / f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.part"
        try:
            folder.mkdir(exist_ok=True)
            part.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            part.replace(folder / (name + REPORT))
        except OSError as exc:
            raise LakeError(
                folder, f"the report cannot be written: {exc.strerror}.", "is there room?"
            ) from exc

    def _move(self, entry: Path, folder: str, name: str) -> Path:
        try:
            (self.folder / folder).mkdir(exist_ok=True)
            target = self.folder / folder / _free_name(self.folder / folder, name)
            entry.rename(target)
        except OSError as exc:
            raise LakeError(
                entry, f"cannot be moved to {folder}/: {exc.strerror}.",
                "accepted/ and rejected/ must lie on the inbox's own file system, and be writable.",
            ) from exc  # fmt: skip
        return target


@dataclass(frozen=True, slots=True)
class _Signature:
    """What changes when an upload is written to."""

    files: int
    bytes: int
    changed_ns: int  # the newest change of any file or folder
    digest: str  # of all names, sizes and times


def _signature(entry: Path) -> _Signature | None:
    """Return the signature of a file or a folder with all below it; None when it is not there."""
    whole = hashlib.sha256()
    files = size = newest = 0
    try:
        places = [entry]
        while places:
            place = places.pop()
            found = place.lstat()
            files, size, newest = files + 1, size + found.st_size, max(newest, found.st_ctime_ns)
            whole.update(
                os.fsencode(place) + f"\0{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n".encode()
            )
            if place.is_dir() and not place.is_symlink():
                places += sorted(place.iterdir())
    except FileNotFoundError:
        # Something was renamed or deleted meanwhile: it is being written to, or taken by another process.
        return _Signature(files, size, time.time_ns(), "changing") if os.path.lexists(entry) else None
    except OSError:
        pass  # what cannot be read is for ingest to refuse
    return _Signature(files, size, newest, whole.hexdigest())


def _free_name(folder: Path, name: str) -> str:
    """Return ``name``, with a number when it is taken, cut to what a file's name may have with a report's ending."""
    raw = os.fsencode(name)
    most = _NAME_BYTES - len(REPORT) - 6
    if len(raw) > most:
        raw = raw[: most - 9] + b"-" + hashlib.sha256(raw).hexdigest()[:8].encode()
        raw = raw.decode("utf-8", "ignore").encode()
    name = os.fsdecode(raw)
    stem = archive_stem(Path(name))
    number, candidate = 1, name
    while os.path.lexists(folder / candidate) or (folder / (candidate + REPORT)).is_dir():
        number += 1
        candidate = f"{stem}-{number}{name[len(stem) :]}"
    return candidate


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
