"""Follows the table metric_metadata: what senders say of metrics apart from their series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from varve.model.errors import NeedsOperator
from varve.model.metadata import Metadata
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Follower
from varve.storage.store import Store

TABLE = "metric_metadata"


class MetricMetadata:
    """What the table says, as of the last look. Not safe to share between threads; `known` is."""

    def __init__(self, store: Store) -> None:
        """Does not look yet."""
        self._store = store
        self._follower: Follower | None = None
        self.files: Sequence[LiveFile] = ()
        """Those that `known` was read from."""
        self.known: Mapping[str, Metadata] = {}
        """By the name of a metric or a family, what its newest row says. Never changed in place."""
        self.newest_ms = 0
        """When the newest row was noted."""
        self._version = -1

    def look(self) -> bool:
        """Reads what was committed since the last look. Whether anything was. Raises OSError if the
        storage cannot be reached.
        """
        try:
            self._follower = self._follower or Follower(self._store, TABLE)
        except NeedsOperator:  # tables of an earlier release
            return False
        seen = self._follower.refresh()
        if seen.version == self._version:
            return False
        rows = seen.scan(Bounds()).sort_by("noted_at")
        texts = (rows.column(name).to_pylist() for name in ("metric", "type", "unit", "help"))
        self.known = {name: Metadata(*said) for name, *said in zip(*texts, strict=True)}
        self.newest_ms = max(rows.column("noted_at").to_pylist(), default=0)
        self.files, self._version = seen.files, seen.version
        return True
