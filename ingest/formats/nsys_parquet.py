"""Parquet exports of Nsight Systems (``nsys export -t parquetdir``): a directory with one file a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.formats.nsys_common import open_parquet
from ingest.formats.nsys_files import META_TABLES
from ingest.formats.nsys_tables import NSYS_TABLES, read_export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.formats.base import Batch, Reading, Source


class NsysParquet:
    """nsys export as a Parquet directory."""

    name = "nsys_parquet"
    priority = 21
    summary = "nsys export (directory): holds StringIds.parquet and META_DATA_EXPORT.parquet"
    tables = NSYS_TABLES

    def sniff(self, source: Source) -> bool:
        """Recognise a directory by the two tables that every export has."""
        if not source.is_dir or not (source.path / "StringIds.parquet").is_file():
            return False
        return any((source.path / f"{table}.parquet").is_file() for table in META_TABLES)

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Yield kernels, memory operations, NVTX ranges, metrics, GPUs and markers."""
        yield from read_export(open_parquet(reading.source.path, reading.source.name, reading.temp), reading)
