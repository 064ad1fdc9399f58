"""The shapes an object of JSON may have: which names it has tells which of them it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from varve.ingest.decoded import Reject
from varve.ingest.name_rules import check_names
from varve.model.identity import SeriesDefinition, define

Row = tuple[SeriesDefinition, int, float]
"""A sample: its series, its time in ms and its value."""

# Memory of the distinct (metric, tags) texts whose identity is kept; a full cache is emptied. One
# of 100 bytes was measured to take 1,250, so this holds over 400,000 of them.
CACHED_BYTES = 512 * 2**20
_CACHED_ENTRY = 650
_CACHED_PER_BYTE = 6


@dataclass(frozen=True, slots=True)
class Read:
    """What an object holds. rejects: parts of it that cannot be stored, where others can."""

    rows: Sequence[Row]
    rejects: Sequence[Reject] = ()


class Shape(Protocol):
    """Reads the objects of one shape."""

    marks: ClassVar[frozenset[str]]
    """Names that objects of this shape alone have; each object has one of them."""
    schema_file: ClassVar[str]
    """The file under schemas/wire that describes it."""

    def read(self, part: bytes) -> Read:
        """Reads an object. Raises BadRecord, or NOT_JSON, if nothing of it can be stored."""
        ...


class Identities:
    """Definitions of series by what a message says of them, as long as there is room."""

    def __init__(self) -> None:
        self.known: dict[object, SeriesDefinition] = {}
        self._bytes = 0

    def get(self, key: object, size: int, make: Callable[[], SeriesDefinition]) -> SeriesDefinition:
        """The definition under a key, made if it is not known. size: bytes of the texts in it."""
        known = self.known.get(key)
        if known is not None:
            return known
        series = make()
        self.put(key, size, series)
        return series

    def put(self, key: object, size: int, series: SeriesDefinition) -> None:
        # By size, as a label may be as long as a message: limits on labels are judged later.
        self._bytes += _CACHED_ENTRY + _CACHED_PER_BYTE * size
        if self._bytes > CACHED_BYTES:
            self.known.clear()
            self._bytes = 0
        self.known[key] = series


def series(metric: str, tags: dict[str, str]) -> SeriesDefinition:
    """A series of which nothing more is said. Raises BadRecord."""
    check_names(metric, tags)
    return define(metric, tags)
