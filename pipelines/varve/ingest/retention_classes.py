"""Series that are kept for a shorter time than the others: [retention.NAME] of conf/limits.toml.

One place says it for all who go by it: ingest refuses what is too old, expiry deletes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from varve.model.errors import NeedsOperator
from varve.model.series_matcher import SeriesMatcher
from varve.model.toml_text import matcher_of
from varve.model.window import DAY_MS, TIERS

TABLES = ("samples", *(tier.table for tier in TIERS))
"""The tables that expire, the finest first."""

LEAST_DAYS = 0.01
"""The shortest retention of samples: below a quarter of an hour they might not be rolled up."""


@dataclass(frozen=True, slots=True)
class RetentionClass:
    """Some series, and how long tables keep their rows, ms. A table that is not named keeps them as
    long as those of all other series, which is the most for every table.
    """

    name: str
    matcher: SeriesMatcher
    kept_ms: Mapping[str, int]
    """By table: samples, and those above it that differ."""


def parse_classes(sections: Any, origin: str) -> tuple[RetentionClass, ...]:
    """The sections [retention.NAME], by name. Raises NeedsOperator with what is wrong and where."""
    if not isinstance(sections, dict):
        raise NeedsOperator(f"{origin}: retention: a section is wanted for each, [retention.NAME]")
    return tuple(
        _class(name, section, f"{origin}: retention.{name}")
        for name, section in sorted(sections.items())
    )


def _class(name: str, section: Any, where: str) -> RetentionClass:
    keys = ("match", *(f"{table}_days" for table in TABLES))
    if not isinstance(section, dict):
        raise NeedsOperator(f"{where}: a section is wanted, with {', '.join(keys)}")
    if unknown := section.keys() - set(keys):
        raise NeedsOperator(f"{where}: there is no {min(unknown)}; there are {', '.join(keys)}")
    matcher = matcher_of(section, where, "debug_.*")
    days = {t: _days(section[f"{t}_days"], where, t) for t in TABLES if f"{t}_days" in section}
    _require_order(days, where)
    return RetentionClass(name, matcher, {table: int(d * DAY_MS) for table, d in days.items()})


def _days(value: Any, where: str, table: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= LEAST_DAYS:
        raise NeedsOperator(
            f"{where}: {table}_days: {value!r} is not a number from {LEAST_DAYS} on"
        )
    return float(value)


def _require_order(days: Mapping[str, float], where: str) -> None:
    """What a tier is computed from has to be there until it surely is: as in settings.retention."""
    named = [table for table in TABLES if table in days]
    if named != list(TABLES[: len(named)]) or not named:
        raise NeedsOperator(
            f"{where}: name samples_days, and of {', '.join(TABLES[1:])} those next to it: what is"
            " above the last one named is kept as the settings say"
        )
    for below, above in pairwise(named):
        least = days[below] + (0 if above == TABLES[-1] else 1)
        if days[above] < least:
            raise NeedsOperator(f"{where}: {above}_days must be at least {least:g}")
