"""Find what looks like a credential in the files of a trace, without ever keeping or printing a value.

Every file below the trace's folder is looked at, also those that no format takes (a forgotten ``.env``) and
the tables of an nsys export that ``ingest`` never opens. Files are streamed; no value beyond the limits below
is held.
"""

from __future__ import annotations

import os
import re
import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ingest.credentials import HINT, MAX_VALUE, find, is_secret
from ingest.duck import connect
from ingest.errors import FormatError
from ingest.formats import Source
from ingest.formats.nsys_files import SQLITE_MAGIC, check_parquet, connect_sqlite, plain_tables, scan_parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ingest.trace import Trace

_CHUNK = 1 << 20
_OVERLAP = 2 * MAX_VALUE  # a value that is cut by the end of a chunk is found whole in the next
_BEFORE = 256
_BLOCK_ROWS = 500
_BINARY_MAGICS = (b"NVF1", b"PK\3\4", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh")
_REPORTS = (".nsys-rep", ".qdrep")
_MAX_PLACES = 1_000
_KEY = re.compile(r"[A-Za-z0-9_. -]{1,64}")
# Columns whose text is the name of the value beside it.
_NAME_COLUMNS, _VALUE_COLUMNS = ("name", "key", "devStateName"), ("value",)


@dataclass(frozen=True, slots=True, order=True)
class SecretFinding:
    """Values that look like credentials in one place of an upload; never the values themselves."""

    path: str  # of the file, relative to the trace's folder
    place: str | None  # the table in it
    key: str  # the name that the values go under, or what their shape is called
    count: int

    @property
    def problem(self) -> str:
        """Say what and how many."""
        values = "1 value that looks" if self.count == 1 else f"{self.count} values that look"
        return f"{self.key}: {values} like a credential."

    def __str__(self) -> str:
        """Say where, too."""
        where = f"{self.path}, table {self.place}" if self.place else self.path
        return f"{where}: {self.problem}"


REMEDY = "revoke it, and upload a copy without it: tracelake scrub TRACE -o OUT"


def find_secrets(trace: Trace) -> list[SecretFinding]:
    """Return what looks like a credential in a trace's files, by file, table and key.

    A file that cannot be read as what it is (a cut database) gives what was found until then.
    """
    return find_in_folder(trace.root)


def find_in_folder(root: Path) -> list[SecretFinding]:
    """Return what looks like a credential in the files below ``root``; links are not followed."""
    counts: dict[tuple[str, str | None, str], int] = {}
    for path in _files(root):
        name = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
        for place, key in _in_file(path):
            where = (name, place, key if _KEY.fullmatch(key) and not any(find(key)) else "unnamed")
            if where not in counts and len(counts) >= _MAX_PLACES:
                where = (name, None, "more places")
            counts[where] = counts.get(where, 0) + 1
    return [
        SecretFinding(path, place, key, count)
        for (path, place, key), count in sorted(
            counts.items(), key=lambda i: (i[0][0], i[0][1] or "", i[0][2])
        )
    ]


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _in_file(path: Path) -> Iterator[tuple[str | None, str]]:
    """Yield (table, key) for each value that looks like a credential."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if path.name.endswith(_REPORTS):
            # NVIDIA's own binary, with the machine's environment in it, compressed.
            yield None, "environment of the machine in a report"
        elif head == SQLITE_MAGIC:
            yield from _in_sqlite(path)
        elif head[:4] == b"PAR1":
            yield from ((path.stem, key) for key in _in_parquet(path))
        elif not head.startswith(_BINARY_MAGICS):
            with Source(path, path.name).open() as stream:
                yield from ((None, key) for key in _in_stream(stream))
    except (OSError, EOFError, zlib.error, sqlite3.Error, duckdb.Error, pa.ArrowException, FormatError):
        return  # whether it can be read is for ingest to say


def _in_stream(stream: IO[bytes]) -> Iterator[str]:
    """Yield the keys found in a stream of text, with a chunk and an overlap in memory."""
    kept, done = b"", 0  # bytes before `done` were looked at and stay for the names in front of values
    while True:
        chunk = stream.read(_CHUNK)
        window = kept + chunk
        last = len(window) - _OVERLAP if chunk else len(window)
        for found in find(window.decode("latin-1")):
            if done <= found.start < last:
                yield found.key
        if not chunk:
            return
        keep = max(last - _BEFORE, 0)
        kept, done = window[keep:], max(last, 0) - keep


def _in_sqlite(path: Path) -> Iterator[tuple[str, str]]:
    with closing(connect_sqlite(path)) as db:
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for table in sorted(plain_tables(path)):
            columns = {
                row[1]: str(row[2]).upper() for row in db.execute(f"PRAGMA table_info({_identifier(table)})")
            }
            texts = [c for c, kind in columns.items() if not re.search("INT|REAL|FLOA|DOUB|NUM|BOOL", kind)]
            if not texts:
                continue
            names = [texts.index(c) for c in _NAME_COLUMNS if c in texts]
            values = [texts.index(c) for c in _VALUE_COLUMNS if c in texts]
            query = f"SELECT {', '.join(map(_identifier, texts))} FROM {_identifier(table)}"
            rows = db.execute(query)
            while block := rows.fetchmany(_BLOCK_ROWS):
                if names and values:
                    keys = (key for row in block for key in _in_row([_text(v) for v in row], names, values))
                else:
                    # No value crosses a line: one look at many short texts is much quicker than many looks.
                    keys = (f.key for f in find("\n".join(_text(v) for row in block for v in row if v)))
                yield from ((table, key) for key in keys)


def _in_parquet(path: Path) -> Iterator[str]:
    check_parquet(path, path.name)
    with connect(memory_limit="300MB", threads=1, temp_directory="") as con:
        scan = scan_parquet(path)
        columns = con.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
        texts = [name for name, kind, *_ in columns if kind == "VARCHAR"]
        if not texts:
            return
        names = [texts.index(c) for c in _NAME_COLUMNS if c in texts]
        values = [texts.index(c) for c in _VALUE_COLUMNS if c in texts]
        reader = con.execute(f"SELECT {', '.join(map(_identifier, texts))} FROM {scan}").to_arrow_reader(
            8_192
        )
        for rows in reader:
            if not (names and values):
                # Most rows hold nothing: let Arrow say which may.
                hint = [pc.fill_null(pc.match_substring_regex(c, HINT), False) for c in rows.columns]
                found = [c.filter(h) for c, h in zip(rows.columns, hint, strict=True)]
                yield from (f.key for c in found for text in c.to_pylist() for f in find(text))
                continue
            for row in zip(*(c.to_pylist() for c in rows.columns), strict=True):
                yield from _in_row([v or "" for v in row], names, values)


def _in_row(row: list[str], names: Iterable[int], values: Iterable[int]) -> Iterator[str]:
    """Yield the keys of one row's texts: a value by the name beside it, every text by what is in it."""
    named: set[int] = set()
    for v in values:
        for n in names:
            if v not in named and is_secret(row[n], row[v]):
                named.add(v)
                yield row[n]
    for i, text in enumerate(row):
        if i not in named and text:
            yield from (f.key for f in find(text))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:_CHUNK].decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
