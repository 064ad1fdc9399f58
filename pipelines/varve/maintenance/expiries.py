"""Expiries: what is due to go of the tables, and what became of it. expiry.py makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from varve.maintenance.series_trimming import DueTrimming, Trimmed
from varve.model.clock import utc_text
from varve.model.schema import table_schema
from varve.storage.log import LiveFile

ALL = "all series"
"""What reports call the series that have no class."""

RIVAL = "a rival was in the way, the rest is left to the next run"
AWAY = (
    "a colder root is out of reach, where copies of files that were being moved may show these rows"
    " again: the next run takes them back"
)
"""Why something is left to the next run."""


@dataclass(frozen=True, slots=True)
class DueExpiry:
    """Rows of a table up to until_ms that are due to go."""

    table: str
    name: str
    """Of the class; ALL for all series."""
    matcher: str
    """Text of the SeriesMatcher of the class; empty for all series."""
    begin_ms: int | None
    """Rows up to here have gone before."""
    until_ms: int
    files: tuple[LiveFile, ...]
    """Files that can have such rows."""

    @property
    def old_files(self) -> list[LiveFile]:
        """Files that go as a whole."""
        time = table_schema(self.table).time_column or ""
        return [] if self.matcher else [f for f in self.files if f.maximum[time] <= self.until_ms]


@dataclass(frozen=True, slots=True)
class DueExpiries:
    """All that is due."""

    expiries: tuple[DueExpiry, ...]
    trimming: DueTrimming | None = None
    """Of series, if they were asked for."""

    def as_json(self) -> Mapping[str, Any]:
        return {
            "expiries": [
                {
                    "table": due.table,
                    "series": due.name,
                    "until_ms": due.until_ms,
                    "files": len(due.files),
                    "old_files": len(due.old_files),
                }
                for due in self.expiries
            ],
            "trimming": None if self.trimming is None else self.trimming.as_json(),
        }

    def lines(self) -> Iterable[str]:
        for due in self.expiries:
            old, some = len(due.old_files), len(due.files) - len(due.old_files)
            yield (
                f"{due.table}: {due.name} up to {utc_text(due.until_ms)}:"
                f" {old:,} files are old as a whole, {some:,} in part"
            )
        if not self.expiries:
            yield "nothing is older than its retention"
        if self.trimming is not None:
            yield from self.trimming.lines()


@dataclass(frozen=True, slots=True)
class ExpiredRows:
    """What went of a table."""

    table: str
    series: str
    until_ms: int
    files_removed: int
    """As a whole."""
    files_rewritten: int
    rows: int
    left: str
    """Why something is left to the next run: RIVAL or AWAY; empty if nothing is."""

    @property
    def is_done(self) -> bool:
        return not self.left


@dataclass(frozen=True, slots=True)
class AllExpired:
    """What a run did."""

    expired: tuple[ExpiredRows, ...]
    trimmed: Trimmed | None = None
    """Of series, if they were asked for."""

    def as_json(self) -> Mapping[str, Any]:
        return {
            "expired": [asdict(e) | {"is_done": e.is_done} for e in self.expired],
            "trimmed": None if self.trimmed is None else self.trimmed.as_json(),
        }

    def lines(self) -> Iterable[str]:
        for e in self.expired:
            rest = "" if e.is_done else f"; {e.left}"
            yield (
                f"{e.table}: {e.series} up to {utc_text(e.until_ms)}: {e.rows:,} rows gone,"
                f" {e.files_removed:,} files removed, {e.files_rewritten:,} rewritten{rest}"
            )
        yield f"{sum(e.rows for e in self.expired):,} rows gone"
        if self.trimmed is not None:
            yield from self.trimmed.lines()
