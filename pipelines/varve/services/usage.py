"""CPU time and memory of processes, and of those a Spark job consists of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import psutil

from varve.telemetry.metrics import Usage


def usage_of(processes: Iterable[psutil.Process]) -> Usage:
    """Together; those that end meanwhile count nothing.

    What their children have used that ended and were waited for is in it, so the sum over a family
    does not fall when one of it ends.
    """
    cpu_s, rss = 0.0, 0
    for process in processes:
        try:
            with process.oneshot():
                cpu_s += sum(process.cpu_times()[:4])  # user, system, and both of children
                rss += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return Usage(cpu_s, rss)


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty if there is none."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def spark_parts() -> Mapping[str, Usage]:
    """driver: this process. jvm: Spark's, below this one, or above it under spark-submit. workers:
    the Python processes below the JVM.
    """
    me = psutil.Process(os.getpid())
    mine = me.children(recursive=True)
    jvm = next((p for p in (*mine, *me.parents()) if _is_java(p)), None)
    below = family(jvm.pid)[1:] if jvm else []
    if jvm not in mine:
        below = [p for p in below if p != me and p not in mine]
    return {
        "driver": usage_of([me]),
        "jvm": usage_of([jvm] if jvm else []),
        "workers": usage_of(below),
    }


def _is_java(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "java")
    except psutil.NoSuchProcess:
        return False
