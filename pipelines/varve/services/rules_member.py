"""The name of a process among those that evaluate rules, and whether one of a name has ended."""

from __future__ import annotations

import contextlib
import os
import socket
from functools import cache
from pathlib import Path

import psutil


def member_name() -> str:
    """A name that no other process has, ever: machine, process, and when it began."""
    began_ms = round(psutil.Process().create_time() * 1000)
    return f"{_machine()}/{os.getpid()}/{began_ms}"


def is_gone(member: str) -> bool:
    """Whether a process of this machine has ended; False if nobody knows."""
    machine, pid, began_ms = member.rsplit("/", 2)
    if machine != _machine():
        return False
    try:
        return round(psutil.Process(int(pid)).create_time() * 1000) != int(began_ms)
    except psutil.NoSuchProcess:
        return True


@cache
def _machine() -> str:
    """Where processes are known by their numbers: this host, or this container of it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
    return "-".join(parts)
