"""Disks and network interfaces of this machine. A device that cannot be read is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from varve.collectors.readings import Family, Part, Reading, Unreadable, counter, gauge

_OF_512_BYTES = 1 / 512
"""The kernel counts in sectors of 512 bytes, whatever the disk's own are."""
_MS = 1_000.0
_DISK: tuple[tuple[Family, int, float], ...] = (
    (counter("node_disk_reads_completed_total", "", "Reads finished."), 3, 1.0),
    (counter("node_disk_reads_merged_total", "", "Reads merged."), 4, 1.0),
    (counter("node_disk_read_bytes_total", "bytes", "Bytes read."), 5, _OF_512_BYTES),
    (counter("node_disk_read_time_seconds_total", "seconds", "Time in reads."), 6, _MS),
    (counter("node_disk_writes_completed_total", "", "Writes finished."), 7, 1.0),
    (counter("node_disk_writes_merged_total", "", "Writes merged."), 8, 1.0),
    (counter("node_disk_written_bytes_total", "bytes", "Bytes written."), 9, _OF_512_BYTES),
    (counter("node_disk_write_time_seconds_total", "seconds", "Time in writes."), 10, _MS),
    (
        counter("node_disk_io_time_seconds_total", "seconds", "Time with any request under way."),
        12,
        _MS,
    ),
)
# Linux 2.6 has 14 fields, 4.18 has 18, 5.5 has 20: what is new comes last, in groups.
_DISK_FIELDS = frozenset({14, 18}) | frozenset(range(20, 64))
_OTHER_DISKS = re.compile(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")

_NETWORK: tuple[tuple[Family, int], ...] = tuple(
    (counter(f"node_network_{way}_{what}_total", unit, text), column)
    for way, what, unit, text, column in (
        ("receive", "bytes", "bytes", "Bytes received.", 0),
        ("receive", "packets", "", "Packets received.", 1),
        ("receive", "errs", "", "Packets received in error.", 2),
        ("receive", "drop", "", "Packets dropped on receipt.", 3),
        ("transmit", "bytes", "bytes", "Bytes sent.", 8),
        ("transmit", "packets", "", "Packets sent.", 9),
        ("transmit", "errs", "", "Packets that failed on sending.", 10),
        ("transmit", "drop", "", "Packets dropped on sending.", 11),
    )
)
_NETWORK_FIELDS = 16
_UP = gauge("node_network_up", "", "1 if the interface is up.")
_MTU = gauge("node_network_mtu_bytes", "bytes", "Largest packet of the interface.")
# Drivers that cannot tell say unknown: lo's, for one.
_UP_STATES = ("up", "unknown")


def diskstats(proc: Path) -> Iterator[Part]:
    """Source: Linux, Documentation/admin-guide/iostats.rst."""
    for line in _lines(proc / "diskstats"):
        fields = line.split()
        device = fields[2] if len(fields) > 2 else line
        if _OTHER_DISKS.match(device):
            continue
        if len(fields) not in _DISK_FIELDS:
            yield Unreadable(device, f"its line has {len(fields)} fields")
            continue
        try:
            values = [int(fields[column]) / per_unit for _, column, per_unit in _DISK]
        except ValueError as err:
            yield Unreadable(device, str(err))
            continue
        for (family, _, _), value in zip(_DISK, values, strict=True):
            yield Reading(family, {"device": device}, value)


def netdev(proc: Path) -> Iterator[Part]:
    for line in _lines(proc / "net" / "dev")[2:]:  # two lines are its head
        # An alias has a colon in its name.
        device, _, rest = line.strip().rpartition(":")
        fields = rest.split()
        if len(fields) != _NETWORK_FIELDS:
            yield Unreadable(device or line, f"its line has {len(fields)} fields")
            continue
        try:
            values = [int(fields[column]) for _, column in _NETWORK]
        except ValueError as err:
            yield Unreadable(device, str(err))
            continue
        for (family, _), value in zip(_NETWORK, values, strict=True):
            yield Reading(family, {"device": device}, float(value))


def netclass(sys: Path) -> Iterator[Part]:
    for folder in sorted((sys / "class" / "net").iterdir()):
        if not folder.is_dir():  # bonding_masters
            continue
        try:
            up = (folder / "operstate").read_text().strip() in _UP_STATES
            mtu = int((folder / "mtu").read_text())
        except (OSError, ValueError) as err:  # it may be gone by now
            yield Unreadable(folder.name, str(err))
            continue
        yield Reading(_UP, {"device": folder.name}, float(up))
        yield Reading(_MTU, {"device": folder.name}, float(mtu))


def _lines(path: Path) -> list[str]:
    """Names of devices may be any bytes."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    return text.removesuffix("\n").split("\n")
