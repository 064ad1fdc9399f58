"""CPU time and memory of processes, such as those of a Spark job."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import psutil

from varve.telemetry.metrics import Usage


def usage_of(processes: Iterable[psutil.Process]) -> Usage:
    """CPU time and memory of all these processes; one that ends meanwhile counts nothing.

    The CPU time includes that of children that have ended and were waited for, so the sum over a
    family does not fall when one of them ends.
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
    """A process and its descendants; empty if there is no such process."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def spark_parts() -> Mapping[str, Usage]:
    """Usage of the parts of the Spark job that this process is the driver of.

    driver: this process. jvm: Spark's JVM, a descendant of this process, or its ancestor under
    spark-submit. workers: the Python processes below the JVM.
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
