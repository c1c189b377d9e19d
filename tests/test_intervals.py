"""The interval macros, as dbt compiles them, against brute force."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import duckdb
import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.resources import resource

Span = tuple[int, int, int]  # key, start, end

# Several units a cell of the intersection's grid and several cells a unit.
UNITS = st.sampled_from([1, 5_000_011, 40_000_003])
spans = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 25), st.integers(0, 8)).map(
        lambda s: (s[0], s[1], s[1] + s[2])
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def macros() -> Any:
    """The interval macros and the data tests that use them, as dbt compiles them."""
    folder = resource("dbt_project") / "macros"
    tests = (folder / "tests.sql").read_text(encoding="utf-8").replace("{% test ", "{% macro ")
    text = (folder / "intervals.sql").read_text(encoding="utf-8") + tests.replace(
        "{% endtest %}", "{% endmacro %}"
    )
    environment = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=False)
    return environment.from_string(text, globals={"var": {"bucket_ms": 1}.__getitem__}).module


def run(sql: str, unit: int, **tables: list[Span]) -> list[tuple[Any, ...]]:
    """Rows of ``sql`` over tables of intervals in units of ``unit`` ns, sorted."""
    with duckdb.connect() as con:
        for name, rows in tables.items():
            con.execute(f"create table {name} (k int, n int, start_ns bigint, end_ns bigint, is_even bool)")
            values = [f"({k}, {n}, {s * unit}, {e * unit}, {n % 2 == 0})" for n, (k, s, e) in enumerate(rows)]
            if values:
                con.execute(f"insert into {name} values {', '.join(values)}")
        return sorted(con.execute(sql).fetchall())


def covered(rows: list[Span], key: int) -> set[int]:
    """The units that any interval of a key covers."""
    return {at for k, start, end in rows if k == key for at in range(start, end)}


def runs(units: set[int]) -> list[tuple[int, int]]:
    """Maximal runs of a set of units."""
    starts = sorted(u for u in units if u - 1 not in units)
    ends = sorted(u + 1 for u in units if u + 1 not in units)
    return list(zip(starts, ends, strict=True))


def expected_runs(units: dict[int, set[int]], unit: int) -> list[tuple[int, int, int]]:
    return [(k, start * unit, end * unit) for k in sorted(units) for start, end in runs(units[k])]


@settings(max_examples=40, deadline=None)
@given(a=spans, unit=UNITS)
def test_a_union_is_the_covered_time_in_maximal_runs(macros: Any, a: list[Span], unit: int) -> None:
    found = run(f"select k, start_ns, end_ns from ({macros.interval_union('a', ['k'])})", unit, a=a)
    assert found == expected_runs({k: covered(a, k) for k in (0, 1)}, unit)


@settings(max_examples=40, deadline=None)
@given(a=spans, b=spans, unit=UNITS)
def test_a_difference_is_the_time_of_one_side_only_in_maximal_runs(
    macros: Any, a: list[Span], b: list[Span], unit: int
) -> None:
    found = run(
        f"select k, start_ns, end_ns from ({macros.interval_difference('a', 'b', ['k'])})", unit, a=a, b=b
    )
    assert found == expected_runs({k: covered(a, k) - covered(b, k) for k in (0, 1)}, unit)


@settings(max_examples=40, deadline=None)
@given(a=spans, b=spans, unit=UNITS)
def test_an_intersection_is_one_row_for_every_pair_that_shares_time(
    macros: Any, a: list[Span], b: list[Span], unit: int
) -> None:
    b_named = [(k, s, e) for k, s, e in b]
    with_names = "(select k, n as m, start_ns, end_ns from b) as named"
    sql = macros.interval_intersection("a", with_names, ["k"], ["n"], ["m"])
    pairs = [
        (k, n, m, max(s, t) * unit, min(e, f) * unit)
        for n, (k, s, e) in enumerate(a)
        for m, (j, t, f) in enumerate(b_named)
        if k == j and max(s, t) < min(e, f)
    ]
    assert run(sql, unit, a=a, b=b) == sorted(pairs)


@settings(max_examples=40, deadline=None)
@given(a=spans, unit=UNITS)
def test_counts_are_the_intervals_under_way_in_pieces_that_fill_the_time(
    macros: Any, a: list[Span], unit: int
) -> None:
    rows = [(n, *span) for n, span in enumerate(a)]
    sql = macros.interval_counts("a", ["k"], {"every": "true", "even": "is_even", "odd": "not is_even"})
    found = run(sql, unit, a=a)
    for key in (0, 1):
        proper = [(n, s, e) for n, k, s, e in rows if k == key and e > s]
        edges = sorted({at for _, s, e in proper for at in (s, e)})
        counted = [
            [sum(s <= at < e and n % 2 in parity for n, s, e in proper) for parity in ((0, 1), (0,), (1,))]
            for at in edges[:-1]
        ]
        expected = [
            (key, start * unit, end * unit, *counts)
            for start, end, counts in zip(edges, edges[1:], counted, strict=False)
        ]
        assert [row for row in found if row[0] == key] == expected


@settings(max_examples=40, deadline=None)
@given(a=spans, start=st.integers(0, 20), length=st.integers(1, 20), unit=UNITS)
def test_clipping_keeps_what_meets_the_window_and_only_its_time_there(
    macros: Any, a: list[Span], start: int, length: int, unit: int
) -> None:
    bounds = ("start_ns", "end_ns", str(start * unit), str((start + length) * unit))
    sql = f"select n, {macros.interval_clip(*bounds)} from a where end_ns > start_ns and {macros.intervals_meet(*bounds)}"
    inside = [
        (n, sorted(set(range(s, e)) & set(range(start, start + length)))) for n, (_, s, e) in enumerate(a)
    ]
    assert run(sql, unit, a=a) == [(n, u[0] * unit, (u[-1] + 1) * unit) for n, u in inside if u]


@settings(max_examples=40, deadline=None)
@given(a=spans, unit=UNITS)
def test_uncovered_parts_add_up_to_the_length_of_the_union(macros: Any, a: list[Span], unit: int) -> None:
    before = macros.previous_end_ns("end_ns", "k", "start_ns, end_ns")
    part = macros.uncovered_ns("start_ns", "end_ns", "before_ns")
    sql = f"select k, sum({part})::bigint from (select *, {before} as before_ns from a) group by k"
    lengths = {k: len(covered(a, k)) * unit for k, _, _ in a}
    assert run(sql, unit, a=a) == sorted(lengths.items())


@settings(max_examples=40, deadline=None)
@given(a=spans, unit=UNITS)
def test_the_precondition_of_disjoint_intervals_finds_every_set_that_is_not(
    macros: Any, a: list[Span], unit: int
) -> None:
    keyed = {k: [(s, e) for j, s, e in a if j == k] for k in (0, 1)}
    shares = any(len(covered(a, k)) < sum(e - s for s, e in keyed[k]) for k in keyed)
    is_disjoint = not shares and all(e > s for _, s, e in a)
    assert (run(macros.intervals_disjoint("a", ["k"]), unit, a=a) == []) == is_disjoint


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 30), min_size=2, max_size=8, unique=True),
    at=st.integers(0, 6),
    move=st.integers(-1, 1),
)
def test_the_precondition_of_filled_time_finds_a_gap_and_an_overlap(
    macros: Any, cuts: list[int], at: int, move: int
) -> None:
    edges = sorted(cuts)
    a = [(0, 2 * start, 2 * end) for start, end in pairwise(edges)]
    inner = at % len(a)
    is_moved = move != 0 and inner + 1 < len(a)
    if is_moved:
        a[inner] = (0, a[inner][1], a[inner][2] + move)
    assert (run(macros.intervals_fill("a", ["k"]), 1, a=a) == []) == (not is_moved)
