"""This machine's metrics under node_exporter's names, so that dashboards made for it work.

Names, units, types and label names are facts of node_exporter 1.9; how they are read is ours.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from varve.client import Sample
from varve.collectors.readings import Family, Reading, Target
from varve.collectors.readings import counter as _counter
from varve.collectors.readings import gauge as _gauge

JOB = "node"

_PROC = Path("/proc")
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
# Not storage of anybody's, as in node_exporter; and network ones: a server that is away would block
# the whole scrape.
_OTHER_FILESYSTEMS = re.compile(
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660"
    r"|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs"
    r"|tracefs|erofs|nfs4?|cifs|smb3|ceph|afs|9p|fuse\..+)$"
)
_OTHER_MOUNTS = re.compile(
    r"^/(dev|proc|sys|run/credentials/.+|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)
_OTHER_DISKS = re.compile(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")


Source = Callable[[], Iterator[Reading]]


class HostCollector:
    """Measures this machine."""

    def __init__(self, instance: str, sources: dict[str, Source] | None = None) -> None:
        """sources: by node_exporter's collector names; those of this machine by default."""
        self._target = Target(JOB, instance)
        self._sources = SOURCES if sources is None else sources

    def scrape(self, ts_ms: int) -> list[Sample]:
        """One sample of every series, all at ts_ms, and a marker for each that is gone.

        A source that fails says so in node_scrape_collector_success, and its series end.
        """
        return self._target.samples([*self._read(), Reading(_UP, {}, 1.0)], ts_ms)

    def end(self, ts_ms: int) -> list[Sample]:
        """A staleness marker for every living series: nobody measures from here on."""
        return self._target.end(ts_ms)

    def _read(self) -> Iterator[Reading]:
        for name, source in self._sources.items():
            began = time.perf_counter()
            success = 1.0
            try:
                yield from list(source())
            except (OSError, psutil.Error):
                success = 0.0
            labels = {"collector": name}
            yield Reading(_DURATION, labels, time.perf_counter() - began)
            yield Reading(_SUCCESS, labels, success)


_UP = _gauge("up", "", "1 while the target can be measured.")
_DURATION = _gauge(
    "node_scrape_collector_duration_seconds", "seconds", "Time one part of the scrape took."
)
_SUCCESS = _gauge("node_scrape_collector_success", "", "Whether one part of the scrape worked.")

_CPU = _counter("node_cpu_seconds_total", "seconds", "Time a CPU spent in each mode.")
_GUEST = _counter(
    "node_cpu_guest_seconds_total", "seconds", "Time a CPU spent for virtual machines."
)
_CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def _cpu() -> Iterator[Reading]:
    for number, times in enumerate(psutil.cpu_times(percpu=True)):
        for mode in _CPU_MODES:
            yield Reading(_CPU, {"cpu": str(number), "mode": mode}, getattr(times, mode))
        for mode, column in (("user", "guest"), ("nice", "guest_nice")):
            yield Reading(_GUEST, {"cpu": str(number), "mode": mode}, getattr(times, column))


_MEMORY_FAMILIES = {
    name: _gauge(f"node_memory_{name}_bytes", "bytes", text) for name, text in _MEMORY.items()
}


def _meminfo() -> Iterator[Reading]:
    # Not from psutil: it counts reclaimable slab as cached, node_exporter does not.
    for line in (_PROC / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        family = _MEMORY_FAMILIES.get(name)
        if family is not None:
            yield Reading(family, {}, float(rest.split()[0]) * 1024)


_LOADS = tuple(
    _gauge(f"node_load{m}", "", f"Tasks running or waiting, averaged over {m} min.")
    for m in (1, 5, 15)
)


def _loadavg() -> Iterator[Reading]:
    for family, value in zip(_LOADS, psutil.getloadavg(), strict=True):
        yield Reading(family, {}, value)


_FS_SIZE = _gauge("node_filesystem_size_bytes", "bytes", "Size of a file system.")
_FS_FREE = _gauge("node_filesystem_free_bytes", "bytes", "Its free space, root's share included.")
_FS_AVAIL = _gauge("node_filesystem_avail_bytes", "bytes", "Its free space for everybody.")
_FS_FILES = _gauge("node_filesystem_files", "", "Inodes it can hold.")
_FS_FILES_FREE = _gauge("node_filesystem_files_free", "", "Inodes it can still take.")
_FS_READONLY = _gauge("node_filesystem_readonly", "", "1 if it is mounted read-only.")


def _filesystem() -> Iterator[Reading]:
    mounts = {p.mountpoint: p for p in psutil.disk_partitions(all=True)}  # the last one is on top
    for point, mount in mounts.items():
        # A container's root is an overlay, and its only disk.
        if point != "/" and (_OTHER_FILESYSTEMS.match(mount.fstype) or _OTHER_MOUNTS.match(point)):
            continue
        stat = _statvfs(point)
        if stat is None or stat.f_blocks == 0:
            continue
        labels = {"device": mount.device, "fstype": mount.fstype, "mountpoint": point}
        yield Reading(_FS_SIZE, labels, float(stat.f_blocks * stat.f_frsize))
        yield Reading(_FS_FREE, labels, float(stat.f_bfree * stat.f_frsize))
        yield Reading(_FS_AVAIL, labels, float(stat.f_bavail * stat.f_frsize))
        yield Reading(_FS_FILES, labels, float(stat.f_files))
        yield Reading(_FS_FILES_FREE, labels, float(stat.f_ffree))
        yield Reading(_FS_READONLY, labels, float("ro" in mount.opts.split(",")))


_DISK = (
    (_counter("node_disk_reads_completed_total", "", "Reads finished."), "read_count", 1.0),
    (_counter("node_disk_reads_merged_total", "", "Reads merged."), "read_merged_count", 1.0),
    (_counter("node_disk_read_bytes_total", "bytes", "Bytes read."), "read_bytes", 1.0),
    (_counter("node_disk_read_time_seconds_total", "seconds", "Time in reads."), "read_time", 1e-3),
    (_counter("node_disk_writes_completed_total", "", "Writes finished."), "write_count", 1.0),
    (_counter("node_disk_writes_merged_total", "", "Writes merged."), "write_merged_count", 1.0),
    (_counter("node_disk_written_bytes_total", "bytes", "Bytes written."), "write_bytes", 1.0),
    (
        _counter("node_disk_write_time_seconds_total", "seconds", "Time in writes."),
        "write_time",
        1e-3,
    ),
    (
        _counter("node_disk_io_time_seconds_total", "seconds", "Time with any request under way."),
        "busy_time",
        1e-3,
    ),
)


def _diskstats() -> Iterator[Reading]:
    # nowrap would keep state of its own; a counter that wraps is a reset, which rate() knows.
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    for device, values in counters.items():
        if not _OTHER_DISKS.match(device):
            for family, column, scale in _DISK:
                yield Reading(family, {"device": device}, getattr(values, column) * scale)


_NETWORK = tuple(
    (_counter(f"node_network_{way}_{what}_total", unit, text), column)
    for way, what, unit, text, column in (
        ("receive", "bytes", "bytes", "Bytes received.", "bytes_recv"),
        ("receive", "packets", "", "Packets received.", "packets_recv"),
        ("receive", "errs", "", "Packets received in error.", "errin"),
        ("receive", "drop", "", "Packets dropped on receipt.", "dropin"),
        ("transmit", "bytes", "bytes", "Bytes sent.", "bytes_sent"),
        ("transmit", "packets", "", "Packets sent.", "packets_sent"),
        ("transmit", "errs", "", "Packets that failed on sending.", "errout"),
        ("transmit", "drop", "", "Packets dropped on sending.", "dropout"),
    )
)


def _netdev() -> Iterator[Reading]:
    for device, values in psutil.net_io_counters(pernic=True, nowrap=False).items():
        for family, column in _NETWORK:
            yield Reading(family, {"device": device}, float(getattr(values, column)))


_NET_UP = _gauge("node_network_up", "", "1 if the interface is up.")
_NET_MTU = _gauge("node_network_mtu_bytes", "bytes", "Largest packet of the interface.")


def _netclass() -> Iterator[Reading]:
    for device, stats in psutil.net_if_stats().items():
        yield Reading(_NET_UP, {"device": device}, float(stats.isup))
        yield Reading(_NET_MTU, {"device": device}, float(stats.mtu))


_STAT = {
    "ctxt": _counter("node_context_switches_total", "", "Switches between tasks."),
    "intr": _counter("node_intr_total", "", "Interrupts served."),
    "processes": _counter("node_forks_total", "", "Processes and threads begun."),
    "procs_running": _gauge("node_procs_running", "", "Tasks that could run."),
    "procs_blocked": _gauge("node_procs_blocked", "", "Tasks waiting for a disk."),
    "btime": _gauge("node_boot_time_seconds", "seconds", "When it booted, since the Unix epoch."),
}


def _stat() -> Iterator[Reading]:
    for line in (_PROC / "stat").read_text().splitlines():
        name, value, *_ = line.split(maxsplit=2)
        if name in _STAT:
            yield Reading(_STAT[name], {}, float(value))


_FILES_OPEN = _gauge("node_filefd_allocated", "", "File handles in use.")
_FILES_MAX = _gauge("node_filefd_maximum", "", "File handles there can be.")


def _filefd() -> Iterator[Reading]:
    allocated, _, maximum = (_PROC / "sys/fs/file-nr").read_text().split()
    yield Reading(_FILES_OPEN, {}, float(allocated))
    yield Reading(_FILES_MAX, {}, float(maximum))


_TIME = _gauge("node_time_seconds", "seconds", "Its clock, since the Unix epoch.")


def _time() -> Iterator[Reading]:
    yield Reading(_TIME, {}, time.time())


_UNAME = Family("node_uname_info", "info", "", "Kernel and name of the machine; always 1.")


def _uname() -> Iterator[Reading]:
    uname = platform.uname()
    labels = {
        "sysname": uname.system,
        "release": uname.release,
        "version": uname.version,
        "machine": uname.machine,
        "nodename": uname.node,
    }
    yield Reading(_UNAME, labels, 1.0)


SOURCES: dict[str, Source] = {
    "cpu": _cpu,
    "meminfo": _meminfo,
    "loadavg": _loadavg,
    "filesystem": _filesystem,
    "diskstats": _diskstats,
    "netdev": _netdev,
    "netclass": _netclass,
    "stat": _stat,
    "filefd": _filefd,
    "time": _time,
    "uname": _uname,
}


def _statvfs(point: str) -> os.statvfs_result | None:
    """None where this user may not look, or what was mounted is gone."""
    try:
        return os.statvfs(point)
    except (PermissionError, FileNotFoundError):
        return None
