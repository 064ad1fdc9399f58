"""What a metric is: its type, unit and help, as producers say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_UNKNOWN_TYPES = ("", "unknown")
# What the series of a histogram, a summary or a counter may have behind the name of their family.
_SUFFIXES = ("_bucket", "_count", "_sum", "_total")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is said of a metric; a field that nobody has said is unknown or empty."""

    type: str = "unknown"
    """One of OpenMetrics' types."""
    unit: str = ""
    help: str = ""

    def filled_by(self, other: Metadata) -> Metadata:
        """The same, with what `other` says in the fields of which nothing is known."""
        return Metadata(
            other.type if self.type in _UNKNOWN_TYPES else self.type,
            self.unit or other.unit,
            self.help or other.help,
        )


NOTHING_KNOWN = Metadata()


def metadata_of(metric: str, known: Mapping[str, Metadata]) -> Metadata:
    """What is known of a metric by its own name, or else by that of its family."""
    found = known.get(metric)
    if found is not None:
        return found
    for suffix in _SUFFIXES:
        if metric.endswith(suffix):
            return known.get(metric.removesuffix(suffix), NOTHING_KNOWN)
    return NOTHING_KNOWN
