"""Great Expectations, kept in one place: the import, the frame it sees, one validation.

GX runs in memory (an ephemeral context: no project folder, no files), with analytics off; it has no network
to reach. Importing it takes seconds, so that this module is imported where something is to be judged.
"""

from __future__ import annotations

import functools
import html
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.quality.catalogue import catalogue
from ingest.quality.suites import suites

os.environ["GX_ANALYTICS_ENABLED"] = "false"
with warnings.catch_warnings():
    # Its dependencies' deprecations are not ours to fix.
    warnings.simplefilter("ignore")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

WHOLE = "the table"  # shown where a fact has no subject


@dataclass(frozen=True, slots=True)
class TableResult:
    """GX's own result of one suite, and what it found: (rule, subject) pairs."""

    result: Any
    breaches: tuple[tuple[str, str | None], ...]


def validate(by_table: dict[str, list[dict[str, Any]]], tables: Iterable[str]) -> dict[str, TableResult]:
    """Run the suites of ``tables`` over their facts."""
    return {table: _validate(table, by_table[table]) for table in tables}


def frame(table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a subject, one column a fact, for all facts of the catalogue about the table.

    Subjects come from the trace and end in a page that GX builds without escaping: they are escaped here.
    """
    import pandas as pd

    facts = [f.fact for f in catalogue().values() if table in f.tables]
    subjects = dict.fromkeys(row["subject"] for row in rows)
    cells: dict[str, dict[str | None, float | None]] = {fact: {} for fact in facts}
    for row in rows:
        if row["fact"] not in cells:
            continue  # on record from a version that measured more
        cells[row["fact"]][row["subject"]] = row["value"]
    columns = {
        fact: pd.Series([cell.get(s) for s in subjects], dtype="float64") for fact, cell in cells.items()
    }
    shown = [WHOLE if s is None else html.escape(s) for s in subjects]
    return pd.DataFrame({"subject": pd.Series(shown, dtype="object"), **columns})


def _validate(table: str, rows: list[dict[str, Any]]) -> TableResult:
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = _batches(table).get_batch({"dataframe": frame(table, rows)})
        suite = gx.ExpectationSuite(**suites()[table].document)
        result = batch.validate(
            suite, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["subject"]}
        )
    shown = {WHOLE if s is None else html.escape(s): s for s in subjects}
    breaches = []
    for one in result.results:
        rule = one.expectation_config.meta["rule"]
        _require_no_exception(table, rule, one.exception_info)
        if not one.success:
            breaches += [(rule, shown[item["subject"]]) for item in one.result["unexpected_index_list"]]
    return TableResult(result, tuple(breaches))


def _require_no_exception(table: str, rule: str, info: dict[str, Any]) -> None:
    """GX answers a rule that it cannot judge with success=False and the exception: a fault of the suite."""
    for one in [info] if "raised_exception" in info else info.values():
        if one["raised_exception"]:
            raise RuntimeError(f"schemas/expectations/{table}.yml: {rule}: {one['exception_message']}")


@functools.cache
def _source() -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context.data_sources.add_pandas("facts")


@functools.cache
def _batches(table: str) -> Any:
    return _source().add_dataframe_asset(table).add_batch_definition_whole_dataframe("facts")
