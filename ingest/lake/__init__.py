"""The lake: Parquet files and a DuckLake catalog. The only place that opens, writes and commits."""

from ingest.lake.store import Lake, TraceRecord
from ingest.lake.writer import StagedFiles, TraceWriter

__all__ = ["Lake", "StagedFiles", "TraceRecord", "TraceWriter"]
