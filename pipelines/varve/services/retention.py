"""How long rows are kept, and where, by the settings and the file of limits."""

from __future__ import annotations

from collections.abc import Callable

from varve.ingest.limits import LimitsFile
from varve.ingest.retention_classes import TABLES
from varve.maintenance.expiry import Retention
from varve.model.window import DAY_MS
from varve.services.limits import limits_files
from varve.settings import Settings


def retention_reader(settings: Settings) -> Callable[[], Retention]:
    """Gives the retention in force, whenever it is asked for: the file of limits is read again when
    it has changed. Raises NeedsOperator if that file is malformed now; later it changes nothing.
    """
    limits = LimitsFile(limits_files(settings))
    days = {table: getattr(settings.retention, f"{table}_days") for table in TABLES}
    kept_ms = {table: int(kept * DAY_MS) for table, kept in days.items()}
    return lambda: Retention(kept_ms, limits.current().classes)


def move_ages_ms(settings: Settings) -> list[int]:
    """The ages, ms, from which rows leave each root but the coldest, the hot one first."""
    return [int(days * DAY_MS) for _, _, days in settings.colder_roots()]
