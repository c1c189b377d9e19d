"""dbt-duckdb plugin: loads DuckDB's extensions from their wheels and attaches the lake as ``lake``.

Named by ``dbt_project/profiles.yml``; the environment variable ``TRACELAKE_LAKE`` is the lake's folder.
"""

from __future__ import annotations

import os
from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin

from ingest.duck import load_extension
from ingest.lake.attach import attach_sql, lake_place, sql_string

# dbt shares the machine with whatever is traced next; what does not fit is spilled to .build/spill.
_MEMORY_LIMIT = "700MB"


class Plugin(BasePlugin):
    """Prepares dbt's connection; dbt may call it again for the same database."""

    def configure_connection(self, conn: Any) -> None:
        """Attach the lake and bound the memory."""
        place = lake_place(os.environ.get("TRACELAKE_LAKE", "lake"))
        for name in place.extensions:
            load_extension(conn, name)
        spill = place.root / ".build" / "spill"
        conn.execute(f"set temp_directory = {sql_string(spill)}")
        conn.execute(f"set memory_limit = {sql_string(os.environ.get('TRACELAKE_MEMORY', _MEMORY_LIMIT))}")
        # Row order means nothing to a mart, and keeping it costs memory.
        conn.execute("set preserve_insertion_order = false")
        attached = conn.execute(
            "select count(*) from duckdb_databases() where database_name = 'lake'"
        ).fetchone()
        if not attached[0]:
            conn.execute(attach_sql(place))
