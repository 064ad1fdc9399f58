"""Moves of files between roots: what is due, and what became of it. tiering.py makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from varve.storage.log import LiveFile
from varve.storage.store import Store


@dataclass(frozen=True, slots=True)
class Link:
    """A root and the colder one that its files move to once their rows are after_ms old."""

    upper: Store
    lower: Store
    after_ms: int


@dataclass(frozen=True, slots=True)
class DueMove:
    """What is due between two roots for a table."""

    link: Link
    table: str
    owed: int | None
    """Number of a move whose files are in both roots; None if there is none."""
    files: tuple[LiveFile, ...]
    """The files of the next move; none while one is owed."""
    now_ms: int

    def as_json(self) -> Mapping[str, Any]:
        return {
            "table": self.table,
            "to": self.link.lower.root,
            "owed": self.owed,
            "files": len(self.files),
            "bytes": sum(file.size for file in self.files),
        }

    def line(self) -> str:
        if self.owed is not None:
            return f"{self.table}: move {self.owed} to {self.link.lower.root} is to be finished"
        size = sum(file.size for file in self.files)
        return (
            f"{self.table}: {len(self.files):,} files of {size:,} bytes to {self.link.lower.root}"
        )


@dataclass(frozen=True, slots=True)
class DueMoves:
    """All that is due."""

    moves: tuple[DueMove, ...]

    def as_json(self) -> Mapping[str, Any]:
        return {"moves": [move.as_json() for move in self.moves]}

    def lines(self) -> Iterable[str]:
        yield from (move.line() for move in self.moves)
        if not self.moves:
            yield "no file is old enough to move"


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a move. copied: files that are in the colder root now. removed: of an earlier
    move, files that are there alone now. kept: files whose copy was given up, as they were
    rewritten meanwhile or the copy was not equal.
    """

    table: str
    to: str
    copied: int
    removed: int
    kept: int
    nbytes: int
    """Bytes of the copied files."""


@dataclass(frozen=True, slots=True)
class AllMoved:
    """What a run did."""

    moved: tuple[Moved, ...]

    def as_json(self) -> Mapping[str, Any]:
        return {"moved": [asdict(one) for one in self.moved]}

    def lines(self) -> Iterable[str]:
        for m in self.moved:
            yield (
                f"{m.table}: {m.copied:,} files of {m.nbytes:,} bytes copied to {m.to},"
                f" {m.removed:,} removed above, {m.kept:,} stay above"
            )
        yield f"{sum(m.copied for m in self.moved):,} files copied"
