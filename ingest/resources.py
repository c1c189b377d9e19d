"""Where the files that travel with the package lie: contracts, cards, the dbt project, samples."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# In a checkout these folders stand beside the package; in a wheel they are bundled inside of it.
_CHECKOUT = {
    "dbt_project": _PACKAGE.parent / "dbt_project",
    "schemas": _PACKAGE.parent / "schemas",
    "cards": _PACKAGE.parent / "cards",
    "traces": _PACKAGE.parent / "tests" / "data" / "traces",
}


def resource(name: str) -> Path:
    """Return the folder ``name`` (dbt_project, schemas, cards or traces) of this installation.

    >>> resource("schemas").name
    'schemas'
    """
    bundled = _PACKAGE / "_bundled" / name
    path = bundled if bundled.is_dir() else _CHECKOUT[name]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: this installation of tracelake is incomplete; install it anew.")
    return path
