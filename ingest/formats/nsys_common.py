"""What the nsys exports share: a look at their tables, checked columns, streaming and errors.

SQLite and Parquet exports hold the same tables. A table is only there when it has rows, and columns come and
go with the schema's version, so everything is asked for by name.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ingest.duck import connect
from ingest.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingest.formats.base import Source

SQLITE_MAGIC = b"SQLite format 3\x00"
# The second name is that of schemas before 2024.
META_TABLES = ("META_DATA_EXPORT", "EXPORT_META_DATA")
SESSION_TABLE = "TARGET_INFO_SESSION_START_TIME"
# What a version in the export's metadata looks like; other text there is nobody's business.
VERSION = re.compile(r"\d[0-9A-Za-z.+_-]{0,40}")
# The only tables that are ever opened: environment, processes and command lines stay unread.
READ_TABLES = frozenset(
    {
        *META_TABLES,
        SESSION_TABLE,
        "StringIds",
        "ANALYSIS_DETAILS",
        "TARGET_INFO_GPU",
        "TARGET_INFO_CUDA_DEVICE",
        "TARGET_INFO_GPU_METRICS",
        "GPU_METRICS",
        "NVTX_EVENTS",
        "CUPTI_ACTIVITY_KIND_KERNEL",
        "CUPTI_ACTIVITY_KIND_RUNTIME",
        "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
        "CUPTI_ACTIVITY_KIND_MEMCPY",
        "CUPTI_ACTIVITY_KIND_MEMSET",
    }
)
# Small enough that long kernel names do not fill the memory, large enough that a batch costs nothing.
STREAM_ROWS = 245_760
_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
)
_HINT = "export the report anew: nsys export -t sqlite --force-overwrite true -o OUT.sqlite REPORT.nsys-rep"


def quoted(text: object) -> str:
    """Return ``text`` as an SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


@dataclass
class Export:
    """An open nsys export: which tables and columns it has, and how DuckDB reads them."""

    con: duckdb.DuckDBPyConnection
    name: str  # of the source, for messages
    scans: dict[str, str]  # table -> what stands behind FROM
    _columns: dict[str, dict[str, str]] = field(default_factory=dict)

    def has(self, table: str) -> bool:
        """Whether the export has ``table``."""
        return table in self.scans

    def columns(self, table: str) -> dict[str, str]:
        """Return the DuckDB type of each column of ``table``; empty when there is no such table."""
        if table not in self.scans:
            return {}
        if table not in self._columns:
            rows = self.rows(f"DESCRIBE SELECT * FROM {self.scans[table]}", table)
            self._columns[table] = {row[0]: row[1] for row in rows}
        return self._columns[table]

    def integer(
        self, table: str, column: str, alias: str = "t", *, sql_type: str = "BIGINT", required: bool = False
    ) -> str:
        """Return an SQL expression for an integer column, NULL when the schema has none.

        Parquet exports wrap negative values of unsigned columns; they are unwrapped, never through a float.
        Raises :class:`FormatError` when the column is required and missing, or is not of an integer type.
        """
        kind = self.columns(table).get(column)
        if kind is None:
            if required:
                raise self.error(table, f"has no column {column}")
            return f"CAST(NULL AS {sql_type})"
        if kind not in _INTEGERS:
            raise self.error(table, f"column {column} is {kind}, not an integer")
        place = f'{alias}."{column}"'
        if kind == "UBIGINT":
            place = (
                f"CASE WHEN {place} > 9223372036854775807 "
                f"THEN CAST(CAST({place} AS HUGEINT) - 18446744073709551616 AS BIGINT) "
                f"ELSE CAST({place} AS BIGINT) END"
            )
        return f"CAST({place} AS {sql_type})"

    def text(self, table: str, column: str, alias: str = "t") -> str:
        """Return an SQL expression for a text column, NULL when the schema has none."""
        kind = self.columns(table).get(column)
        if kind is not None and kind != "VARCHAR":
            raise self.error(table, f"column {column} is {kind}, not text")
        return f'{alias}."{column}"' if kind else "CAST(NULL AS VARCHAR)"

    def strings(self) -> str:
        """Return a subquery ``(id, value)`` over StringIds, empty when there is none."""
        if not self.has("StringIds"):
            return "(SELECT CAST(NULL AS BIGINT) AS id, CAST(NULL AS VARCHAR) AS value WHERE false)"
        identifier = self.integer("StringIds", "id", required=True)
        value = self.text("StringIds", "value")
        return f"(SELECT {identifier} AS id, {value} AS value FROM {self.scans['StringIds']} AS t)"

    def rows(self, sql: str, table: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query over small tables."""
        try:
            return self.con.execute(sql).fetchall()
        except (duckdb.Error, UnicodeDecodeError) as exc:
            raise self.error(table, _first_line(exc)) from exc

    def stream(self, sql: str, table: str) -> Iterator[pa.RecordBatch]:
        """Yield the result of a query in record batches, never whole."""
        try:
            reader = self.con.execute(sql).to_arrow_reader(STREAM_ROWS)
        except duckdb.Error as exc:
            raise self.error(table, _first_line(exc)) from exc
        while True:
            try:
                rows = reader.read_next_batch()
            except StopIteration:
                return
            except (duckdb.Error, pa.ArrowException, OSError, RuntimeError, UnicodeDecodeError) as exc:
                raise self.error(table, _first_line(exc)) from exc
            yield rows

    def error(self, table: str, what: str) -> FormatError:
        """Return the error to raise about ``table``."""
        return FormatError(self.name, f"table {table}: {what.rstrip('.')}.", _HINT)


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else type(exc).__name__


class Names:
    """Looks up StringIds batch by batch: only those that are asked for are ever fetched, each once.

    A join in SQL would copy the long name of every kernel through DuckDB, which takes half of the time.
    """

    def __init__(self, export: Export) -> None:
        self._export, self._con = export, export.con.cursor()  # the first connection is busy streaming
        self._ids, self._values = pa.array([], pa.int64()), pa.array([], pa.string())

    def look_up(self, ids: pa.Array) -> pa.Array:
        """Return the string of each id, null for an id that is null or unknown."""
        asked = ids.unique().drop_null()
        new = asked.filter(pc.invert(pc.is_in(asked, self._ids)))
        if len(new):
            sql = f"SELECT id, value FROM {self._export.strings()} WHERE id IN (SELECT unnest(?::BIGINT[]))"
            try:
                found = dict(self._con.execute(sql, [new.to_pylist()]).fetchall())
            except (duckdb.Error, UnicodeDecodeError) as exc:
                raise self._export.error("StringIds", _first_line(exc)) from exc
            values = pa.array([found.get(i) for i in new.to_pylist()], pa.string())
            self._ids = pa.concat_arrays([self._ids, new])
            self._values = pa.concat_arrays([self._values, values])
        return self._values.take(pc.index_in(ids, self._ids))


def open_sqlite(path: Path, name: str, temp: Path) -> Export:
    """Open an nsys SQLite export; raises :class:`FormatError` when it is not one.

    Only real tables are read: a view or a virtual table of that name counts as missing.
    """
    try:
        found = plain_tables(path)
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        raise FormatError(
            name, f"not a readable SQLite database: {exc}.", "upload it anew, or export it again."
        ) from exc
    check_is_export(found, name)
    scans = {t: f"sqlite_scan({quoted(path.resolve())}, {quoted(t)})" for t in sorted(found & READ_TABLES)}
    return Export(_connect(temp, "sqlite_scanner"), name, scans)


def plain_tables(path: Path) -> set[str]:
    """Return the names of an SQLite file's real tables: no views, no virtual tables."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        return {
            row[0]
            for row in db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            if str(row[1]).lstrip()[:20].upper().startswith("CREATE TABLE")
        }


def open_parquet(folder: Path, name: str, temp: Path) -> Export:
    """Open what ``nsys export -t parquetdir`` wrote; raises :class:`FormatError` when it is none."""
    found = {p.stem: p for p in sorted(folder.glob("*.parquet")) if p.is_file()}
    check_is_export(set(found), name)
    scans = {
        t: f"read_parquet({quoted(_no_glob(p.resolve()))}, hive_partitioning = false)"
        for t, p in found.items() if t in READ_TABLES
    }  # fmt: skip
    return Export(_connect(temp), name, scans)


def check_is_export(tables: set[str], name: str) -> None:
    """Raise :class:`FormatError` unless ``tables`` are those of an nsys export."""
    if "StringIds" not in tables or not tables & set(META_TABLES):
        raise FormatError(
            name,
            "not an nsys export: it has no tables StringIds and META_DATA_EXPORT.",
            "only SQLite files written by `nsys export -t sqlite` are read.",
        )


def _connect(temp: Path, *extensions: str) -> duckdb.DuckDBPyConnection:
    # The limit leaves room for the Parquet writer; large joins spill to the scratch folder.
    con = connect(
        *extensions,
        memory_limit="400MB",
        temp_directory=str(temp / "duckdb"),
        preserve_insertion_order=False,
    )
    # DuckDB reads on while a batch is written.
    con.execute("SET streaming_buffer_size = '16MB'")
    return con


def _no_glob(path: Path) -> str:
    """Escape what DuckDB takes for a pattern: trace ids have brackets."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(path))


def session_key(source: Source) -> tuple[int, ...] | None:
    """Return what two exports of one session have in common: its start in ns since the Unix epoch.

    Reads SQLite files and Parquet directories; ``None`` when it cannot be told (a ``.nsys-rep`` keeps it to
    itself; go by its stem).
    """
    if source.is_dir:
        return _parquet_key(source.path / f"{SESSION_TABLE}.parquet")
    if source.head[:16] != SQLITE_MAGIC:
        return None
    with (
        suppress(sqlite3.Error, ValueError, TypeError),
        closing(sqlite3.connect(f"{source.path.resolve().as_uri()}?mode=ro", uri=True)) as db,
    ):
        known = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (SESSION_TABLE,))
        if known.fetchone():
            rows = db.execute(f"SELECT DISTINCT utcEpochNs FROM {SESSION_TABLE} LIMIT 1000").fetchall()
            return _key([row[0] for row in rows])
    return None


def _parquet_key(path: Path) -> tuple[int, ...] | None:
    import pyarrow.parquet as pq

    with suppress(OSError, pa.ArrowException, ValueError, TypeError):
        return _key(pq.ParquetFile(path).read(columns=["utcEpochNs"])["utcEpochNs"].to_pylist())
    return None


def _key(values: list[Any]) -> tuple[int, ...] | None:
    return tuple(sorted({int(v) for v in values if v is not None})) or None
