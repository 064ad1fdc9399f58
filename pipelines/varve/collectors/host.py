"""This machine's metrics under node_exporter's names, so that dashboards made for it work.

Names, units, types and label names are facts of node_exporter 1.9; how they are read is ours. A
source is left out when it fails, and so is a part of it (a mount, a disk) that cannot be read.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from varve.client import Sample
from varve.collectors.cpu import Cpu
from varve.collectors.devices import diskstats, netclass, netdev
from varve.collectors.filesystems import Filesystems
from varve.collectors.readings import Family, Part, Reading, Target, Unreadable, as_text
from varve.collectors.readings import counter as _counter
from varve.collectors.readings import gauge as _gauge

JOB = "node"

_MEMORY = {
    "MemTotal": "Memory the kernel manages.",
    "MemFree": "Memory nobody uses.",
    "MemAvailable": "Memory programs can still get without swapping, as the kernel estimates it.",
    "Buffers": "Memory of raw block device blocks.",
    "Cached": "Memory of file contents.",
    "Active": "Memory used lately, reclaimed last.",
    "Inactive": "Memory not used lately, reclaimed first.",
    "Dirty": "Memory waiting to be written to disk.",
    "Slab": "Memory of the kernel's own structures.",
    "SReclaimable": "Part of Slab that can be reclaimed.",
    "Shmem": "Memory of tmpfs and shared segments.",
    "SwapTotal": "Swap space there is.",
    "SwapFree": "Swap space nobody uses.",
    "SwapCached": "Memory that is in swap as well.",
}

Source = Callable[[], Iterable[Part]]

log = logging.getLogger("varve.collector")


class HostCollector:
    """Measures this machine."""

    def __init__(
        self,
        instance: str,
        sources: Mapping[str, Source] | None = None,
        on_unreadable: Callable[[str, int], None] = lambda _source, _parts: None,
    ) -> None:
        """sources: by node_exporter's collector names; those of this machine by default.

        on_unreadable: called at each scrape with each source and the number of its parts that
        could not be read.
        """
        self._target = Target(JOB, instance)
        self._sources = sources_of_this_machine() if sources is None else sources
        self._on_unreadable = on_unreadable
        self._failing: dict[str, str] = {}

    def scrape(self, ts_ms: int) -> list[Sample]:
        """One sample of every series, all at ts_ms, and a marker for each that is gone.

        A source that fails says so in node_scrape_collector_success, and its series end.
        """
        return self._target.samples([*self._read(), Reading(_UP, {}, 1.0)], ts_ms)

    def end(self, ts_ms: int) -> list[Sample]:
        """A staleness marker for every living series: nobody measures from here on."""
        return self._target.end(ts_ms)

    def _read(self) -> Iterator[Reading]:
        failing: dict[str, str] = {}
        for name, source in self._sources.items():
            began = time.perf_counter()
            parts: list[Part] = []
            success = 1.0
            try:
                parts = list(source())
            except Exception as err:  # noqa: BLE001 - whatever ails a source, the others are sent
                success = 0.0
                failing[name] = f"{type(err).__name__}: {err}"
            unreadable = [part for part in parts if isinstance(part, Unreadable)]
            failing |= {f"{name}: {part.what}": part.why for part in unreadable}
            self._on_unreadable(name, len(unreadable))
            yield from (part for part in parts if isinstance(part, Reading))
            labels = {"collector": name}
            yield Reading(_DURATION, labels, time.perf_counter() - began)
            yield Reading(_SUCCESS, labels, success)
        self._say_what_changed(failing)

    def _say_what_changed(self, failing: dict[str, str]) -> None:
        for what in failing.keys() - self._failing.keys():
            log.warning("cannot measure %s: %s", as_text(what), as_text(failing[what]))
        for what in self._failing.keys() - failing.keys():
            log.info("%s is measured again, or gone", as_text(what))
        self._failing = failing


_UP = _gauge("up", "", "1 while the target can be measured.")
_DURATION = _gauge(
    "node_scrape_collector_duration_seconds", "seconds", "Time one part of the scrape took."
)
_SUCCESS = _gauge("node_scrape_collector_success", "", "Whether one part of the scrape worked.")

_MEMORY_FAMILIES = {
    name: _gauge(f"node_memory_{name}_bytes", "bytes", text) for name, text in _MEMORY.items()
}


def _meminfo(proc: Path) -> Iterator[Part]:
    # Not from psutil: it counts reclaimable slab as cached, node_exporter does not.
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        family = _MEMORY_FAMILIES.get(name)
        if family is not None:
            yield Reading(family, {}, float(rest.split()[0]) * 1024)


_LOADS = tuple(
    _gauge(f"node_load{m}", "", f"Tasks running or waiting, averaged over {m} min.")
    for m in (1, 5, 15)
)


def _loadavg() -> Iterator[Part]:
    for family, value in zip(_LOADS, os.getloadavg(), strict=True):
        yield Reading(family, {}, value)


_STAT = {
    "ctxt": _counter("node_context_switches_total", "", "Switches between tasks."),
    "intr": _counter("node_intr_total", "", "Interrupts served."),
    "processes": _counter("node_forks_total", "", "Processes and threads begun."),
    "procs_running": _gauge("node_procs_running", "", "Tasks that could run."),
    "procs_blocked": _gauge("node_procs_blocked", "", "Tasks waiting for a disk."),
    "btime": _gauge("node_boot_time_seconds", "seconds", "When it booted, since the Unix epoch."),
}


def _stat(proc: Path) -> Iterator[Part]:
    for line in (proc / "stat").read_text().splitlines():
        name, value, *_ = line.split(maxsplit=2)
        if name in _STAT:
            yield Reading(_STAT[name], {}, float(value))


_FILES_OPEN = _gauge("node_filefd_allocated", "", "File handles in use.")
_FILES_MAX = _gauge("node_filefd_maximum", "", "File handles there can be.")


def _filefd(proc: Path) -> Iterator[Part]:
    allocated, _, maximum = (proc / "sys/fs/file-nr").read_text().split()
    yield Reading(_FILES_OPEN, {}, float(allocated))
    yield Reading(_FILES_MAX, {}, float(maximum))


_TIME = _gauge("node_time_seconds", "seconds", "Its clock, since the Unix epoch.")


def _time() -> Iterator[Part]:
    yield Reading(_TIME, {}, time.time())


_UNAME = Family("node_uname_info", "info", "", "Kernel and name of the machine; always 1.")


def _uname() -> Iterator[Part]:
    uname = platform.uname()
    labels = {
        "sysname": uname.system,
        "release": uname.release,
        "version": uname.version,
        "machine": uname.machine,
        "nodename": uname.node,
    }
    yield Reading(_UNAME, labels, 1.0)


def sources_of_this_machine(
    proc: Path = Path("/proc"), sys: Path = Path("/sys")
) -> dict[str, Source]:
    """Every source, by the name of node_exporter's collector."""
    return {
        "cpu": Cpu(proc),
        "meminfo": partial(_meminfo, proc),
        "loadavg": _loadavg,
        "filesystem": Filesystems(),
        "diskstats": partial(diskstats, proc),
        "netdev": partial(netdev, proc),
        "netclass": partial(netclass, sys),
        "stat": partial(_stat, proc),
        "filefd": partial(_filefd, proc),
        "time": _time,
        "uname": _uname,
    }
