"""Facts of a trace say what its rows hold, and the catalogue says what each fact means."""

from __future__ import annotations

from ingest.contracts import contracts
from ingest.quality.catalogue import catalogue, judged_tables


def test_every_fact_of_the_catalogue_is_about_raw_tables_of_a_trace_and_explained() -> None:
    assert set(judged_tables()) == set(contracts()) - {"quality_facts", "quality_findings"}
    for name, fact in catalogue().items():
        assert name == fact.fact
        assert set(fact.tables) <= set(judged_tables()), name
        assert fact.meaning.endswith("."), name
