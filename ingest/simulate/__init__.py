"""Synthetic traces with known answers, for tests and benchmarks.

A trace made here was never measured: its card, JSON files, markers and nsys export all say so.
"""

from __future__ import annotations

from ingest.simulate.scenario import Burst, Reset, Scenario, Stall
from ingest.simulate.truth import Truth
from ingest.simulate.write import simulate

__all__ = ["Burst", "Reset", "Scenario", "Stall", "Truth", "simulate"]
