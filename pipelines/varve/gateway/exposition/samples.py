"""What a body of exposition holds, whatever its format."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from varve.gateway.write_request import Labels
from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.syntax.go_numbers import format_open_metrics


class InvalidExposition(ValueError):
    """A body is refused as a whole; the text says why, and where."""

    before: Sequence[ExposedSample] = ()
    """What was read of the body before it."""


class Said(NamedTuple):
    """What a body says of a family, None where it says nothing."""

    name: str
    kind: str | None = None
    text: str | None = None
    unit: str | None = None


class ExposedExemplar(NamedTuple):
    """ts_ms is None if it has no time of its own."""

    labels: Labels
    value: float
    ts_ms: int | None


class ExposedSample(NamedTuple):
    """A sample. labels: sorted, `__name__` among them, none empty. ts_ms: None for the time of the
    scrape. start_ms: since when it counts; 0 if that is not said. family: whose metadata it has.
    """

    labels: Labels
    value: float | FloatHistogram
    ts_ms: int | None = None
    start_ms: int = 0
    exemplars: Sequence[ExposedExemplar] = ()
    family: str = ""


@dataclass
class Exposition:
    """Samples in their order, and metadata by the name that the body says it of."""

    samples: list[ExposedSample] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)

    def describe(self, said: Said) -> None:
        """Notes what is said of a family; the last one counts."""
        old = self.metadata.get(said.name, NOTHING_KNOWN)
        self.metadata[said.name] = Metadata(
            old.type if said.kind is None else said.kind,
            old.unit if said.unit is None else said.unit,
            old.help if said.text is None else said.text,
        )


# Unlike Go's syntax, Python's has underscores and spaces around; unlike Python's, Go's has
# hexadecimal numbers, which expositions must not have.
_NUMBER = re.compile(
    rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?:inf|infinity)|nan)",
    re.IGNORECASE,
)
_PLAIN = re.compile(rb"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
"""What nearly all numbers are like; none of these is too large."""
_NAN = re.compile(rb"[+-]nan", re.IGNORECASE)


def number(text: bytes) -> float:
    """A number of an exposition. Raises InvalidExposition; one that is too large, too."""
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _NUMBER.fullmatch(text) or _NAN.fullmatch(text):
        raise InvalidExposition(f"{shown(text)} is no number")
    found = float(text)
    if math.isinf(found) and b"n" not in text.lower():
        raise InvalidExposition(f"{shown(text)} is too large")
    return found


def bound_label(text: str) -> str:
    """The value of `le` or `quantile` in the one form that numbers have there; what is no number
    stays as it is.
    """
    try:
        return format_open_metrics(number(text.encode()))
    except InvalidExposition:
        return text


def labels_of(name: str, pairs: Sequence[tuple[str, str]]) -> Labels:
    """Sorted labels without those that are empty. Raises InvalidExposition for a name that is empty
    or comes twice.
    """
    if not name:
        raise InvalidExposition("a sample has no metric name")
    found = dict(pairs)
    if len(found) < len(pairs) or "__name__" in found:
        raise InvalidExposition(f"a label of {name} comes twice")
    if "" in found:
        raise InvalidExposition(f"a label of {name} has no name")
    found["__name__"] = name
    return tuple(sorted(pair for pair in found.items() if pair[1]))


def shown(text: bytes) -> str:
    """A part of a body for a person, shortened."""
    return repr(text[:60].decode(errors="replace")) + ("..." if len(text) > 60 else "")
