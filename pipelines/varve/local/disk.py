"""Watches the disks of home and tables, so that work is held back before one of them is full.

What has begun can then be finished, logs and status files can be written, and all goes on by
itself once somebody has made room.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from varve.settings import Settings
from varve.telemetry.metrics import DiskSpace

_MIB = 2**20
_GO_ON = 1.5
"""So many times the floor must be free again, so that nothing starts and stops all the time."""
_SHARE = 0.1
"""The floor is at most this share of a disk."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A disk has too little room. severe: less than half the floor is left."""

    why: str
    severe: bool


@dataclass
class Disks:
    """The disks at some paths. Not to be shared between threads, but for `spaces`."""

    paths: Mapping[str, Path]
    """Folders by what is in them: home, tables. One that is not there yet counts as its parent."""
    floor_mb: int
    spaces: dict[str, DiskSpace] = field(default_factory=dict)
    """What the last look saw."""
    _short: dict[str, bool] = field(default_factory=dict)

    def look(self) -> Shortage | None:
        """The disk that is short of room, if one is; its word for a person stays the same.

        A disk that is short stays so until half as much again as the floor is free.
        """
        self.spaces = {what: self._space(path) for what, path in self.paths.items()}
        worst: Shortage | None = None
        for what, space in self.spaces.items():
            enough = space.floor_bytes * (_GO_ON if self._short.get(what) else 1.0)
            self._short[what] = space.free_bytes < enough
            severe = space.free_bytes < space.floor_bytes / 2
            if self._short[what] and (worst is None or severe > worst.severe):
                worst = Shortage(
                    f"the disk of the {what} ({self.paths[what]}) is full: less than"
                    f" {space.floor_bytes / _MIB:,.0f} MiB are free",
                    severe,
                )
        return worst

    def _space(self, path: Path) -> DiskSpace:
        while not path.exists() and path != path.parent:
            path = path.parent
        stat = os.statvfs(path)
        floor = min(self.floor_mb * _MIB, int(stat.f_blocks * stat.f_frsize * _SHARE))
        return DiskSpace(stat.f_bavail * stat.f_frsize, floor)


def disk_paths(settings: Settings) -> dict[str, Path]:
    """Folders that `varve up` writes to; tables of an object store are in none."""
    paths = {"home": settings.home}
    root = settings.storage_root()
    if "://" not in root and not Path(root).is_relative_to(settings.home):
        paths["tables"] = Path(root)
    return paths
