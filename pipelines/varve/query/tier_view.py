"""A rollup tier as queries see it: its files, and which of its windows hold what they should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from varve.model.series_matcher import SeriesMatcher
from varve.model.window import Tier, Window
from varve.query.changes import Changes
from varve.query.file_table import FileTable


@dataclass(frozen=True, slots=True)
class ClassMark:
    """Rows up to until_ms, Unix ms, of the series of a retention class may have been deleted, or
    never made: further than `expired:default` says it of all series.
    """

    matcher: SeriesMatcher
    until_ms: int


@dataclass(frozen=True)
class TierView:
    """A version of a tier's table. Immutable, shared between threads. versions: of the table, as
    Snapshot has them.

    Windows that start at first_ms or later and end at frontier_ms or before have the rows that the
    samples give, except those that overlap a range in `pending`: late samples wait for their repair
    there. frontier_ms is None while no window is closed; first_ms is None if none has expired.
    Windows up to refused_until_ms may have no row: their rows have expired, or their samples had
    when they were to be closed; None if that was never so. `classes` say the same of some series.
    changes: times that commits up to this version touched; None where that is not known.
    """

    tier: Tier
    versions: Mapping[str, int]
    files: FileTable
    frontier_ms: int | None
    first_ms: int | None = None
    pending: Sequence[Window] = ()
    refused_until_ms: int | None = None
    classes: Sequence[ClassMark] = ()
    changes: Changes | None = field(default=None, compare=False)
