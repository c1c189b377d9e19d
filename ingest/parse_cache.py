"""What dbt made of the project's text, kept for the next new lake: reading it anew takes seconds.

dbt keeps this beside each lake's other output and checks it against the project, the profile and its own version
itself; whatever does not fit it parses anew. The cache lies in ``$XDG_CACHE_HOME/tracelake`` (``~/.cache``);
where nobody can write there, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from ingest.resources import resource

_PARSED = "partial_parse.msgpack"
_KEPT = 4  # versions of tracelake in use


def take(target: Path, project: str) -> None:
    """Give a lake whose dbt output is to lie in ``target`` the parsed ``project`` (its fingerprint), if kept."""
    if (target / _PARSED).exists() or (kept := _place(project)) is None or not kept.is_file():
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, target / _PARSED)
        os.utime(kept)
    except OSError:
        # Half a copy costs no more than none: dbt finds it broken and parses.
        return


def leave(target: Path, project: str) -> None:
    """Keep what a build in ``target`` has parsed, in place of what may be broken."""
    kept = _place(project)
    if kept is None or not (target / _PARSED).is_file():
        return
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=kept.parent)
        os.close(handle)
        try:
            shutil.copyfile(target / _PARSED, name)
            Path(name).replace(kept)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        by_age = sorted(kept.parent.glob(f"*.{_PARSED}"), key=lambda p: p.stat().st_mtime)
        for old in by_age[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def _place(project: str) -> Path | None:
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home
        return None
    if not folder.is_absolute():
        return None
    facts = (project, version("dbt-core"), version("dbt-duckdb"), sys.version, str(resource("dbt_project")))
    key = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]
    return folder / "tracelake" / f"{key}.{_PARSED}"
