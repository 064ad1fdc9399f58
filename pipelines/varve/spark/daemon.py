"""The process that Spark forks its Python workers from, with what they need made ready beforehand.

Imports and compiled kernels take seconds of CPU and 150 MB; forked workers share both. Named to
Spark by the setting spark.python.daemon.module, in varve.spark.session.
"""

from __future__ import annotations

import gc
import zipimport

import varve.ingest.task
import varve.rollups.task  # noqa: F401
from varve.model import compiled


def make_ready() -> None:
    """Compiles the kernels of ingest and rollups, or loads them from numba's cache."""
    compiled.warm_up()


def keep_archives() -> None:
    """Lets workers believe that archives on the path stay as they are.

    PySpark asks for them to be read again before every task, and Spark's own jar is among them: 30
    ms of CPU. One that comes with a job is read when it comes.
    """
    zipimport.zipimporter.invalidate_caches = _stay  # type: ignore[method-assign]


def _stay(self: zipimport.zipimporter) -> None:
    """Does nothing."""


if __name__ == "__main__":
    from pyspark.daemon import manager

    make_ready()
    keep_archives()
    # PySpark collects garbage after every task. What is here already never is garbage, and to look
    # through it takes 50 ms and copies its pages into every worker.
    gc.collect()
    gc.freeze()
    # A task holds hundreds of thousands of messages, which are no garbage either: to look at them
    # every 700 objects took a third of the time of a batch of small ones.
    gc.set_threshold(50_000, 20, 20)
    manager()  # type: ignore[no-untyped-call]
