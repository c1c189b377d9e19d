"""Workload cards as source files: recognised here, read by :mod:`ingest.cards`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ingest.cards import parse_card
from ingest.cards.text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.formats.base import Batch, Reading, Source

_TOP = re.compile(
    rb"""^["']?(workload|model[-_ ]?executor|metric_source|hf_url|contributor)["']?[ \t]*:""", re.I | re.M
)


class CardFile:
    """A workload card."""

    name = "card"
    priority = 50
    summary = "workload card (*.yml, *.yaml): a YAML mapping with the key workload"
    tables: tuple[str, ...] = ()

    def sniff(self, source: Source) -> bool:
        """Recognise a card's top-level keys, also where the YAML is broken, to be refused with a reason."""
        if source.is_dir or b"\0" in source.head or source.path.name.endswith(".gz"):
            return False
        keys = {k.lower() for k in _TOP.findall(source.head)}
        if source.path.suffix.lower() in (".yml", ".yaml"):
            return b"workload" in keys or len(keys) >= 2
        return b"workload" in keys and len(keys) >= 2

    def read(self, reading: Reading) -> Iterator[Batch]:
        """Check the card; its columns are the loader's."""
        with reading.source.path.open("rb") as file:
            parse_card(file.read(MAX_BYTES + 1), reading.source.name)
        yield from ()
