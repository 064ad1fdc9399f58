"""A disk of a process that another one makes slow: fsync and fdatasync take as long as it says."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

_VARIABLE = "SLOW_SYNC"


class SlowSync:
    """The disk of processes that are started with `environment`; as quick as it is at first. Takes
    a C compiler.
    """

    def __init__(self, folder: Path) -> None:
        """folder: for its library and its state; no space in its path, where the loader takes a
        name to end.
        """
        library, self._delay = folder / "slow_sync.so", folder / "sync_delay"
        source = Path(__file__).with_suffix(".c")
        build = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)]
        subprocess.run(build, check=True)
        self.environment = {"LD_PRELOAD": str(library), _VARIABLE: str(self._delay)}
        self._delay.touch()
        self.take(0)

    def take(self, seconds: float) -> None:
        """Makes each sync take so much longer from now on."""
        with self._delay.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("q", round(seconds * 1e9)))
