"""What the driver hands to every task: with the task if it is small, else as a broadcast."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from typing import TypeVar

from pyspark.sql import SparkSession

# A value up to here travels with the tasks: far from the 1 MiB of PySpark's own broadcasts.
_INLINE_BYTES = 256 * 1024

T = TypeVar("T")


@contextlib.contextmanager
def handed_over(spark: SparkSession, value: T) -> Iterator[Callable[[], T]]:
    """What tasks call to get a value that can be pickled, until the block ends.

    A large one is a broadcast of ours, whose file is deleted at the end. PySpark makes one by
    itself of any closure over 1 MiB, and keeps its file for as long as the process lives.
    """
    if len(pickle.dumps(value)) <= _INLINE_BYTES:
        yield lambda: value
        return
    broadcast = spark.sparkContext.broadcast(value)
    try:
        yield lambda: broadcast.value
    finally:
        broadcast.destroy()
