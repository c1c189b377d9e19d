"""Workload cards: YAML in, a normalised and validated card out.

A card is read safely (no tags, bounded aliases), what is clear is normalised and said, what is not is refused
with file, path, problem and remedy. The rules are in ``schemas/card.schema.json``.
"""

from ingest.cards.load import Card, load_card, parse_card
from ingest.cards.new import CheckedCard, check_folder, new_card
from ingest.cards.normalise import Normalisation

__all__ = ["Card", "CheckedCard", "Normalisation", "check_folder", "load_card", "new_card", "parse_card"]
