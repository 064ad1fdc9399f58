"""A Structured Streaming query whose source only wakes it: work is planned from the tables.

The checkpoint means nothing and every start uses a fresh one. The source is Spark's own that has a
row for every batch, whatever the clocks say: one written in Python lives in a worker process that
must start within ten seconds, which a busy machine does not manage.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from varve.spark.pacing import Pacer


def start_woken(
    spark: SparkSession,
    pacer: Pacer,
    name: str,
    scratch: str,
    batch: Callable[[DataFrame, int], None],
) -> StreamingQuery:
    """Starts the query. scratch: a folder of its own for the checkpoint.

    Its jobs run in the scheduler's pool of that name: beside a backlog of its, tasks of other
    queries still get every other core that falls free.
    """
    context = spark.sparkContext
    context.setLocalProperty("spark.scheduler.pool", name)
    try:
        writer = (
            spark.readStream.format("rate-micro-batch")
            .option("rowsPerBatch", 1)
            .option("numPartitions", 1)
            .load()
            .writeStream.queryName(name)
            .option("checkpointLocation", f"file://{scratch}/checkpoint")
            .foreachBatch(batch)
        )
        return pacer.start(spark, writer)
    finally:
        context.setLocalProperty("spark.scheduler.pool", "default")
