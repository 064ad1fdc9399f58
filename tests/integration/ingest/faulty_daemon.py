"""What Python workers are forked from when a test wants a task to kill the driver."""

from __future__ import annotations

import os

from pyspark.daemon import manager

from tests.integration.ingest import faults
from varve.ingest import task
from varve.spark.daemon import make_ready

if __name__ == "__main__":
    *point, number, group = os.environ["FAULT_POINT"].split()
    faults.arm(" ".join(point), int(number), int(group))
    faults.before(task._Task, "_write", "after decode")
    faults.after(task._Task, "finish", "after files")
    make_ready()
    manager()
