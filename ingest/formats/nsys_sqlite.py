"""SQLite exports of Nsight Systems (``nsys export -t sqlite``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.formats.nsys_common import open_sqlite
from ingest.formats.nsys_files import SQLITE_MAGIC
from ingest.formats.nsys_tables import NSYS_TABLES, read_export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.formats.base import Batch, Reading, Source


class NsysSqlite:
    """nsys export as SQLite."""

    name = "nsys_sqlite"
    priority = 20
    summary = "nsys export (*.sqlite): SQLite with the tables StringIds and META_DATA_EXPORT"
    tables = NSYS_TABLES

    def sniff(self, source: Source) -> bool:
        """Recognise any SQLite file; one that is not an nsys export is refused with a reason when read."""
        return not source.is_dir and source.head[:16] == SQLITE_MAGIC

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Yield kernels, memory operations, NVTX ranges, metrics, GPUs and markers."""
        yield from read_export(open_sqlite(reading.source.path, reading.source.name, reading.temp), reading)
