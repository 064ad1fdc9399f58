"""The Spark session of jobs and of `varve up`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

from varve.model.resources import jars_dir

# Bytes of messages that cross into Python at once: bounds a worker's memory.
_ARROW_BATCH_BYTES = 64 * 2**20
# By default Spark forks 40 times (chmod, readlink) for the two files that a batch leaves in its
# checkpoint, half of what a small batch costs in all; so it forks four times.
_CHECKPOINTS = "org.apache.spark.sql.execution.streaming.checkpointing"
_LOCAL_FILES = {
    "spark.sql.streaming.checkpointFileManagerClass": (
        f"{_CHECKPOINTS}.FileSystemBasedCheckpointFileManager"
    ),
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
}
# Python workers keep up to 256 MiB that a task has freed for the next one: new pages, which the
# kernel must clear, took a fifth of the CPU time of rollups.
_WORKER_MEMORY = {
    "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": "system",
    "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
}
# In Spark's own jars. Its setting for structured logs does nothing where Python starts the JVM.
_JSON_LOGS = "classpath:org/apache/spark/log4j2-json-layout.properties"


# Services name the type of what they pass on, and may not import Spark themselves.
__all__ = ["SparkSession", "local_conf", "session"]


def session(name: str, conf: Mapping[str, str] | None = None) -> SparkSession:
    """The running session or a new one; `conf` goes before what is set here.

    Started by spark-submit, master, memory and jars are those it was given.
    """
    # Workers must find the packages this process has; a cluster's archive sets this itself.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        # Queries that share a session share its cores: see the pool of varve.spark.rollup.
        "spark.scheduler.mode": "FAIR",
        # Workers are forked from a process that has imported what they need.
        "spark.python.daemon.module": "varve.spark.daemon",
        # By default what a job has found is lost, and its batch fails, if this process does not
        # fetch it within 15 s: as on a machine that was suspended or has no time for it.
        "spark.python.authenticate.socketTimeout": "120s",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "2000",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(_ARROW_BATCH_BYTES),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Progress events pile up in the driver otherwise.
        "spark.sql.streaming.numRecentProgressUpdates": "20",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    settings |= _LOCAL_FILES | _WORKER_MEMORY
    for key, value in (settings | dict(conf or {})).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def local_conf(
    master: str, driver_memory_mb: int, scratch: Path, *, json_logs: bool = False
) -> dict[str, str]:
    """Settings of a session in this process: Spark's memory, folders and jars, loopback only.

    scratch: folder for Spark's temporary files. json_logs: the JVM logs an object a line.
    """
    # Tasks spend their time in Python. The second compiler of Java takes 4 CPU s after a start, and
    # makes nothing faster that is measured by `make bench-gateway`.
    java = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    if json_logs:
        java += f" -Dlog4j2.configurationFile={_JSON_LOGS}"
    jars = sorted(str(jar) for jar in jars_dir("spark").glob("*.jar"))
    return {
        "spark.master": master,
        "spark.driver.memory": f"{driver_memory_mb}m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.jars": ",".join(jars),
        "spark.driver.extraJavaOptions": java,
    }
