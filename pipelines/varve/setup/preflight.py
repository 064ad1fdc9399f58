"""Whether this machine can run Varve: checked before anything is fetched or started."""

import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from varve.setup.console import SetupError, gibibytes
from varve.setup.java import find_java

PYTHON = (3, 11)
MEMORY_BYTES = 6 * 2**30
"""Free memory for the broker, one Spark JVM with its workers and the query service."""
DISK_BYTES = 4 * 2**30
"""Free disk for the packages, their build and a first day of data."""

CHECKS = ("python", "java", "memory", "disk")


def preflight(env: Mapping[str, str], root: Path, *, skip: Collection[str] = ()) -> Iterator[str]:
    """What was found, a line per check of CHECKS but those in `skip`.

    Raises SetupError at the first that fails, and for an unknown name in `skip`.
    """
    if unknown := set(skip) - set(CHECKS):
        raise SetupError(
            f"PREFLIGHT_SKIP names {', '.join(sorted(unknown))}: it may name {', '.join(CHECKS)}."
        )
    if "python" not in skip:
        yield python_found(sys.version_info[:2], sys.executable)
    if "java" not in skip:
        java = find_java(env)
        yield f"Java {java.major} in {java.home}"
    if "memory" not in skip:
        yield memory_found(free_memory())
    if "disk" not in skip:
        yield disk_found(shutil.disk_usage(root).free, root)


def python_found(version: tuple[int, int], executable: str) -> str:
    """`version` is (major, minor). Raises SetupError unless it is PYTHON."""
    if version != PYTHON:
        raise SetupError(
            f"Varve needs Python {_dotted(PYTHON)} and {executable} is {_dotted(version)}:"
            " name the right one, e.g. `make setup PYTHON=/usr/bin/python3.11`."
        )
    return f"Python {_dotted(version)} in {executable}"


def memory_found(free: int | None) -> str:
    """`free` in bytes, None if the system does not tell. Raises SetupError below MEMORY_BYTES."""
    if free is None:
        return "memory unknown (no /proc/meminfo)"
    if free < MEMORY_BYTES:
        raise SetupError(
            f"Varve needs {gibibytes(MEMORY_BYTES)} of free memory and {gibibytes(free)} are free:"
            " stop other programs, or take a larger machine or container."
        )
    return f"{gibibytes(free)} of memory free"


def disk_found(free: int, root: Path) -> str:
    """`free` in bytes on the file system of `root`. Raises SetupError below DISK_BYTES."""
    if free < DISK_BYTES:
        raise SetupError(
            f"Varve needs {gibibytes(DISK_BYTES)} of free disk and {root} has {gibibytes(free)}:"
            " free some, or put the checkout on a larger disk."
        )
    return f"{gibibytes(free)} of disk free"


def free_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that new processes may use: the kernel's estimate, or less in a container.

    None where the kernel does not tell.
    """
    try:
        meminfo = (proc / "meminfo").read_text()
    except OSError:
        return None
    available = [
        int(line.split()[1]) * 1024
        for line in meminfo.splitlines()
        if line.startswith("MemAvailable:")
    ]
    if not available:
        return None
    return min([available[0], *_group_allowances(proc, cgroups)])


def _group_allowances(proc: Path, cgroups: Path) -> Iterator[int]:
    """What is left of the limit of each control group (version 2) this process is in."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if not line.startswith("0::"):
            continue
        group = cgroups / line.removeprefix("0::").lstrip("/")
        for folder in (group, *group.parents):
            allowance = _allowance(folder)
            if allowance is not None:
                yield allowance
            if folder == cgroups:
                break


def _allowance(group: Path) -> int | None:
    """Bytes below the group's limit, page cache that can be dropped counted as free."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        statistics = (group / "memory.stat").read_text()
    except OSError:
        return None
    if limit == "max":
        return None
    droppable = [
        int(line.split()[1])
        for line in statistics.splitlines()
        if line.startswith("inactive_file ")
    ]
    return int(limit) - used + sum(droppable)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(str(part) for part in version)
