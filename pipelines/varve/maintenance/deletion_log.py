"""What the log of samples says of deletions: which have begun, and which are owed to other tables.

A deletion that begins in colder roots is told of first (`deleting`), and is numbered (`deletion`)
by the commit that takes its samples out of the hot root; from then on the tiers owe it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from varve.model.errors import BadRequest, NeedsOperator
from varve.model.window import TIERS, Tier
from varve.query.series_index import Ids
from varve.query.times import MAX_TIME_MS, MIN_TIME_MS
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.log import LogEntry, LogExpired, entries
from varve.storage.store import Store
from varve.storage.table import Table

KEY = "deletion"
"""In the metadata of the commit that numbers a deletion."""
_BEGUN = "deletion_begun"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to go: samples of the series that one of the selectors selects, with
    start_ms <= ts <= end_ms. by: who wants it.
    """

    match: tuple[str, ...]
    start_ms: int = MIN_TIME_MS
    end_ms: int = MAX_TIME_MS
    by: str = ""

    def __post_init__(self) -> None:
        if self.start_ms > self.end_ms:
            raise BadRequest(
                f"the range ends before it begins: {self.start_ms} is over {self.end_ms}"
            )


@dataclass(frozen=True, slots=True)
class Told:
    """A deletion as commits tell of it."""

    wanted: Wanted
    ids: Ids
    """Series, sorted."""
    at_ms: int
    number: int | None = None
    """None until it has begun."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self.wanted) | {
            "at_ms": self.at_ms,
            "series": len(self.ids),
            "ids": base64.b64encode(self.ids.astype("<i8").tobytes()).decode(),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any], number: int) -> Told:
        ids = np.frombuffer(base64.b64decode(said["ids"]), "<i8").astype(np.int64)
        wanted = Wanted(tuple(said["match"]), said["start_ms"], said["end_ms"], said["by"])
        return cls(wanted, ids, said["at_ms"], number)


def begin(store: Store, told: Told, step: Step) -> None:
    """Says what is about to go, before anything has. Raises Conflict if a rival has begun."""
    commit(
        Table(store, "samples"),
        [],
        transactions={positions.deleting(): step},
        metadata={_BEGUN: told.as_json()},
    )


def begun(store: Store) -> Told | None:
    """The deletion that has begun in colder roots and has not come to the hot one.

    Raises NeedsOperator if its commit is no longer in the log.
    """
    table = Table(store, "samples")
    number, done = (table.position(p()) for p in (positions.deleting, positions.deletion))
    if number is None or (done is not None and done >= number):
        return None
    for version in range(table.version, -1, -1):
        entry = _entry(store, version, number)
        if _BEGUN in entry.metadata and entry.positions.get(positions.deleting()) == number:
            return Told.from_json(entry.metadata[_BEGUN], number)
    raise AssertionError(f"deletion {number} of samples has begun, and no commit says so")


def owing(store: Store) -> list[tuple[Tier, int]]:
    """Tiers, from fine to coarse, that the last deletion has not come to, each with the number of
    the last one that has; -1 for none.
    """
    last = Table(store, "samples").position(positions.deletion())
    if last is None:
        return []
    at = [(tier, Table(store, tier.table).position(positions.deletion())) for tier in TIERS]
    done = [(tier, -1 if number is None else number) for tier, number in at]
    return [(tier, number) for tier, number in done if number < last]


def since(store: Store, first: int) -> list[tuple[int, Told]]:
    """The deletions from number `first` on, ascending.

    Raises NeedsOperator if one of them is no longer in the log.
    """
    table, found = Table(store, "samples"), []
    for version in range(table.version, -1, -1):
        entry = _entry(store, version, first)
        number = entry.positions.get(positions.deletion())
        if number is None:
            continue
        found.append((number, Told.from_json(entry.metadata[KEY], number)))
        if number <= first:
            break
    return found[::-1]


def _entry(store: Store, version: int, number: int) -> LogEntry:
    try:
        (entry,) = entries(store, "samples", version - 1, version)
    except LogExpired as err:
        raise NeedsOperator(
            f"deletion {number} of samples has not come to all tiers and its commit is not in the"
            " log of samples any more: delete the same again, which is in nobody's way"
        ) from err
    return entry
