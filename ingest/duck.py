"""One way to open DuckDB: in memory, with extensions loaded from their wheels."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from ingest.errors import LakeError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A gap in an extension's download must not look like a hang, nor like a missing table.
_DEFAULTS: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def connect(*extensions: str, **config: Any) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with ``extensions`` loaded.

    Each extension's binary comes from its wheel, with neither network nor a file in the home folder; without
    the wheel DuckDB's own repository is tried. ``config`` goes to DuckDB (``threads``, ``memory_limit``,
    ``temp_directory`` …). Raises :class:`LakeError` when an extension can be had from nowhere.
    """
    con = duckdb.connect(":memory:", config=_DEFAULTS | config)
    try:
        # Long queries would draw one into the output of other programs.
        con.execute("SET enable_progress_bar = false")
        for name in extensions:
            load_extension(con, name)
    except BaseException:
        con.close()
        raise
    return con


def load_extension(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load one extension from its wheel, else from DuckDB's repository; :class:`LakeError` when neither has it."""
    failures = []
    for binary in _wheel_binaries(name):
        try:
            con.execute(f"LOAD '{str(binary).replace(chr(39), chr(39) * 2)}'")
            return
        except duckdb.Error as exc:  # built for another release, or damaged
            failures.append(str(exc).splitlines()[0])
    try:
        con.execute(f"INSTALL {name}")
        con.execute(f"LOAD {name}")
    except duckdb.Error as exc:
        failures.append(str(exc).splitlines()[0])
        package = f"duckdb-extension-{name.replace('_', '-')}"
        raise LakeError(
            f"DuckDB {duckdb.__version__}",
            f"its extension {name} cannot be loaded: {'; '.join(failures)}",
            f"python -m pip install {package}=={duckdb.__version__}",
        ) from exc


def _wheel_binaries(name: str) -> Iterator[Path]:
    """Yield the binaries that the wheel of extension ``name`` holds for this release of DuckDB."""
    found = importlib.util.find_spec(f"duckdb_extension_{name}")
    for folder in (found.submodule_search_locations or ()) if found else ():
        yield from Path(folder, "extensions", f"v{duckdb.__version__}").glob(f"{name}.duckdb_extension")
