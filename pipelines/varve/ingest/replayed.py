"""What a replay of quarantine came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Replayed:
    """What became of the samples of a selection. All but those stored and merged stay in
    quarantine.
    """

    stored: int = 0
    merged: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Samples refused again, by the reason of now."""
    waiting: Counter[str] = field(default_factory=Counter)
    """Samples that nobody can judge yet, by why: no definition has come, or only their number was
    kept.
    """

    def add(self, other: Replayed) -> None:
        self.stored += other.stored
        self.merged += other.merged
        self.rejected += other.rejected
        self.waiting += other.waiting

    def as_json(self) -> dict[str, Any]:
        return {
            "stored": self.stored,
            "merged": self.merged,
            "rejected": dict(self.rejected),
            "waiting": dict(self.waiting),
        }
