"""The tables that derived metrics are computed from, followed with the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.errors import NeedsOperator
from varve.query.derived_metrics import TABLES
from varve.storage.snapshot import Follower, Snapshot
from varve.storage.store import Store


@dataclass(frozen=True)
class DerivedView:
    """Versions of these tables, without those that do not exist. Immutable, safe to share."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    calendar: Calendar = NO_HOLIDAYS
    """That baselines are computed by."""

    def has_rows(self, table: str) -> bool:
        """Whether a table has any."""
        return table in self.snapshots and len(self.snapshots[table].files) > 0


class DerivedTables:
    """The tables, followed by one thread."""

    def __init__(self, store: Store, calendar: Calendar = NO_HOLIDAYS) -> None:
        """Raises OSError if the storage cannot be reached."""
        self._store = store
        self._followers: dict[str, Follower] = {}
        self.view = DerivedView({}, calendar)
        """As of the last look."""
        self.look()

    @property
    def versions(self) -> Mapping[str, int]:
        """By table, the version in the view."""
        return {table: found.version for table, found in self.view.snapshots.items()}

    def look(self) -> bool:
        """Reads what was committed since the last look. Whether anything was."""
        try:
            fresh = {table: f.refresh() for table, f in self._followers.items()}
        except NeedsOperator:  # the log has expired past where we were: start from a snapshot
            self._followers, fresh = {}, {}
        for table in TABLES:
            if table not in self._followers:
                try:
                    self._followers[table] = Follower(self._store, table)
                except NeedsOperator:  # not created yet
                    continue
                fresh[table] = self._followers[table].snapshot
        before = self.view.snapshots
        changed = fresh.keys() != before.keys() or any(
            fresh[table] is not before[table] for table in fresh
        )
        if changed:
            self.view = DerivedView(fresh, self.view.calendar)
        return changed
