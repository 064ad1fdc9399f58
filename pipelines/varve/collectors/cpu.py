"""CPU time of this machine, by CPU as the kernel numbers them and by mode."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from varve.collectors.readings import Part, Reading, Unreadable, counter

_CPU = counter("node_cpu_seconds_total", "seconds", "Time a CPU spent in each mode.")
_GUEST = counter(
    "node_cpu_guest_seconds_total", "seconds", "Time a CPU spent for virtual machines."
)
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")
_LINE = re.compile(r"cpu(\d+) ")

STEP_BACK_S = 3.0
"""The kernel's counters of idle time, and others, may step back by a tick or two. One that steps
back by more, as after a CPU was taken away and brought back, begins anew.
Source: node_exporter, cpu_linux.go, jumpBackSeconds."""


class Cpu:
    """Reads /proc/stat. Keeps each counter from stepping back: a step would look like a restart,
    and all of its time since the start of the machine like that of one interval.
    """

    def __init__(self, proc: Path) -> None:
        self._stat = proc / "stat"
        self._hertz = os.sysconf("SC_CLK_TCK")
        self._greatest: dict[tuple[str, str], float] = {}

    def __call__(self) -> Iterator[Part]:
        for line in self._stat.read_text(errors="replace").splitlines():
            found = _LINE.match(line)
            if found is None:
                continue
            cpu = found[1]
            try:
                seconds = [int(ticks) / self._hertz for ticks in line.split()[1:]]
            except ValueError as err:
                yield Unreadable(f"cpu{cpu}", str(err))
                continue
            # Old kernels do not know the last modes.
            for mode, value in zip(_MODES, seconds, strict=False):
                yield Reading(_CPU, {"cpu": cpu, "mode": mode}, self._grown(cpu, mode, value))
            for mode, value in zip(_GUEST_MODES, seconds[len(_MODES) :], strict=False):
                kept = self._grown(cpu, f"guest {mode}", value)
                yield Reading(_GUEST, {"cpu": cpu, "mode": mode}, kept)

    def _grown(self, cpu: str, mode: str, value: float) -> float:
        greatest = self._greatest.get((cpu, mode), value)
        if greatest - STEP_BACK_S < value < greatest:
            return greatest
        self._greatest[cpu, mode] = value
        return value
