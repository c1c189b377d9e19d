"""Print rows: a table for people, JSON and CSV for programs. Data goes to stdout, the rest to stderr."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``--csv``; it gets ``as_json`` and ``as_csv``."""
    command = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print a JSON array of row objects.")(command)


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, as_json: bool = False, as_csv: bool = False
) -> None:
    """Print ``rows`` to stdout in the form asked for."""
    if as_json:
        click.echo(to_json(columns, rows))
    elif as_csv:
        write_csv(sys.stdout, columns, rows)
    else:
        click.echo(_table(columns, rows))


def to_json(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a JSON array of row objects; infinities and NaN, which JSON lacks, are strings."""
    objects = [{c: _jsonable(v) for c, v in zip(columns, row, strict=True)} for row in rows]
    return json.dumps(objects, ensure_ascii=False, indent=1, default=str, allow_nan=False)


def write_csv(file: TextIO, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write CSV with a header; null is an empty field."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(v) for v in row] for row in rows)


def _field(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(_jsonable(value), ensure_ascii=False, default=str)
    return value


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Decimal):  # an SQL literal such as 1.5
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_jsonable(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    return value


def shown(value: Any) -> str:
    """Return a value as people read it: null is empty, floats keep six digits.

    >>> shown(1234.56789), shown(None), shown(True)
    ('1234.57', '', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A plain table; one too wide for the terminal is turned, so that each row becomes a column."""
    cells = [list(columns), *([shown(v) for v in row] for row in rows)]
    numeric = [all(isinstance(r[i], (int, float)) or r[i] is None for r in rows) for i in range(len(columns))]
    if sys.stdout.isatty() and _width(cells) > shutil.get_terminal_size().columns and len(columns) > 2:
        turned = [list(column) for column in zip(*cells, strict=True)]
        return _aligned(turned, [False] + [True] * len(rows), rule=False)
    return _aligned(cells, numeric, rule=True)


def _widths(cells: list[list[str]]) -> list[int]:
    return [max(len(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []


def _width(cells: list[list[str]]) -> int:
    return sum(w + 2 for w in _widths(cells))


def _aligned(cells: list[list[str]], right: list[bool], *, rule: bool) -> str:
    widths = _widths(cells)
    out = io.StringIO()
    for number, row in enumerate(cells):
        line = "  ".join(v.rjust(w) if r else v.ljust(w) for v, w, r in zip(row, widths, right, strict=True))
        out.write(line.rstrip() + "\n")
        if rule and number == 0:
            out.write("  ".join("─" * w for w in widths) + "\n")
    return out.getvalue().rstrip("\n")
