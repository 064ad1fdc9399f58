"""Spark's Kafka source: the stream of messages, and what each of its batches reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import unix_millis

from varve.ingest.batch_size import Ranges
from varve.kafka.client_options import Cluster
from varve.kafka.message import Headers, Message
from varve.kafka.partitions import Partition

_TIMESTAMP = "timestamp_ms"
# In the order of Message's fields.
_COLUMNS = ("topic", "partition", "offset", _TIMESTAMP, "value", "headers")
_OPTIONS = {"failOnDataLoss": "true", "includeHeaders": "true"}


def read_stream(
    spark: SparkSession,
    cluster: Cluster,
    topics: Sequence[str],
    begin: Mapping[Partition, int],
    max_messages: int,
) -> DataFrame:
    """The messages of the topics as a stream, from the offsets of `begin` on; partitions that are
    added later from their first message on. max_messages: how many a batch takes at most.
    """
    stream = (
        spark.readStream.format("kafka")
        .options(**cluster.spark_options(), **_OPTIONS)
        .option("subscribe", ",".join(topics))
        .option("startingOffsets", _offsets(begin))
        .option("maxOffsetsPerTrigger", max_messages)
    )
    return _rows(stream.load())


def read_ranges(spark: SparkSession, cluster: Cluster, ranges: Ranges) -> DataFrame:
    """The messages at the offsets, once."""
    begin = {partition: read.start for partition, read in ranges.items()}
    end = {partition: read.end for partition, read in ranges.items()}
    assigned: dict[str, list[int]] = {}
    for partition in ranges:
        assigned.setdefault(partition.topic, []).append(partition.number)
    batch = (
        spark.read.format("kafka")
        .options(**cluster.spark_options(), **_OPTIONS)
        .option("assign", json.dumps(assigned))
        .option("startingOffsets", _offsets(begin))
        .option("endingOffsets", _offsets(end))
    )
    return _rows(batch.load())


def messages(batches: Iterable[pa.RecordBatch]) -> Iterator[Message]:
    """The rows of the source's DataFrame, inside mapInArrow."""
    for batch in batches:
        columns = [_listed(batch.column(name)) for name in _COLUMNS[:-1]]
        headers = _headers(batch.column("headers"))
        yield from map(Message._make, zip(*columns, headers, strict=True))


def logged_offsets(checkpoint: Path, batch: int) -> dict[tuple[str, int], int]:
    """Where a batch of the stream ends, by topic and partition, exclusive: Spark writes it before
    it runs the batch.
    """
    text = (checkpoint / "offsets" / str(batch)).read_text()
    by_topic: dict[str, dict[str, int]] = json.loads(text.splitlines()[-1])
    return {
        (topic, int(partition)): offset
        for topic, offsets in by_topic.items()
        for partition, offset in offsets.items()
    }


def _rows(loaded: DataFrame) -> DataFrame:
    return loaded.withColumn(_TIMESTAMP, unix_millis("timestamp")).select(*_COLUMNS)


def _offsets(by_partition: Mapping[Partition, int]) -> str:
    """Offsets as the options of Spark's source have them."""
    offsets: dict[str, dict[str, int]] = {}
    for partition, offset in by_partition.items():
        offsets.setdefault(partition.topic, {})[str(partition.number)] = offset
    return json.dumps(offsets)


def _listed(column: pa.Array) -> Sequence[Any]:
    """The values of a column: of texts and numbers much faster than by Arrow's to_pylist."""
    if pa.types.is_integer(column.type) and not column.null_count:
        return column.to_numpy().tolist()
    if pa.types.is_string(column.type):
        # Topics: most batches are of one.
        encoded = column.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        if len(names) == 1 and not column.null_count:
            return names * len(column)
    return column.to_pylist()


def _headers(column: pa.ListArray) -> Iterable[Headers]:
    """The headers of each row. Most messages have none: NULL."""
    if column.null_count == len(column):
        return [()] * len(column)
    pairs = column.values
    names, values = pairs.field("key").to_pylist(), pairs.field("value").to_pylist()
    each = list(zip(names, values, strict=True))
    # A NULL row has two equal offsets.
    return [each[begin:end] for begin, end in pairwise(column.offsets.to_pylist())]
