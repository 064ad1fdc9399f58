"""A wall clock of a process that another one steps: all of its code reads it, native or not."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

CAN_BUILD = shutil.which("cc") is not None
"""Whether there is the C compiler that it takes."""

_VARIABLE = "STEPPED_CLOCK"


class SteppedClock:
    """The clock of processes that are started with `environment`; true until it is stepped."""

    def __init__(self, folder: Path) -> None:
        """folder: for its library and its state; no space in its path, where the loader takes a
        name to end.
        """
        library, self._offset = folder / "stepped_clock.so", folder / "clock_offset"
        source = Path(__file__).with_suffix(".c")
        build = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)]
        subprocess.run(build, check=True)
        self.environment = {"LD_PRELOAD": str(library), _VARIABLE: str(self._offset)}
        step(self._offset, 0)

    def step(self, seconds: int) -> None:
        """Sets the clock so far ahead of the true time."""
        step(self._offset, seconds * 10**9)


def step(offset: Path, nanoseconds: int) -> None:
    """Sets the clock that is mapped from a file so far ahead of the true time."""
    offset.touch()
    with offset.open("r+b") as file:  # in place: it is mapped
        file.write(struct.pack("q", nanoseconds))
