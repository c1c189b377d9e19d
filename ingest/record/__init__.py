"""Record a trace: poll NVLink counters, run a command, leave a directory that `tracelake ingest` reads.

Only :func:`marker` is meant for the program under measurement; it imports nothing heavy.
"""

from __future__ import annotations

from ingest.record.markers import marker

__all__ = ["marker"]
