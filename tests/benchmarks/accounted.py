"""Samples that were sent and samples that are in Kafka, as sets that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from tests.benchmarks.made_requests import Rounds
from varve.ingest import arrow_codec
from varve.local.broker import Broker
from varve.model.identity import identify


def keys_of_requests(rounds: Rounds, times: Iterable[int]) -> np.ndarray:
    """A key of each sample of the requests of these times, sorted."""

    @cache
    def ids(numbers: range) -> np.ndarray:
        found = []
        for n in numbers:
            labels = dict(rounds.labels[n])
            found.append(identify(labels.pop("__name__"), labels)[0])
        return np.array(found, np.int64)

    parts = [
        _keys(ids(numbers), np.full(len(numbers), ts), rounds.values(numbers))
        for ts in times
        for numbers in [rounds.times[ts]]
    ]
    return _distinct(parts)


def keys_in_topic(broker: Broker, topic: str) -> np.ndarray:
    """A key of each sample in a topic, sorted; copies of one are one."""
    parts = [_keys(*columns) for columns in columns_in_topic(broker, topic)]
    return _distinct(parts)


def columns_in_topic(
    broker: Broker, topic: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Series, times in ms and values of a topic, message by message."""
    for value in _messages(broker, topic):
        block = arrow_codec.read(value)
        assert not block.rejects
        yield block.series_ids, block.ts, block.values


def _distinct(parts: list[np.ndarray]) -> np.ndarray:
    """All keys sorted, each once. np.unique takes several times as long for so many."""
    ascending = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
    return ascending[np.append(True, ascending[1:] != ascending[:-1])[: len(ascending)]]


def _keys(ids: np.ndarray, ts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """64 bits of series, time and value; two of 20 million samples meet once in 10^5 runs."""
    bits = np.ascontiguousarray(values, np.float64).view(np.int64)
    with np.errstate(over="ignore"):
        mixed = (ids ^ (ts * 0x1E3779B97F4A7C15)) * 0x3F58476D1CE4E5B9
        return mixed ^ (mixed >> 29) ^ (bits * 0x14D049BB133111EB)


def _messages(broker: Broker, topic: str) -> Iterator[bytes]:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, enable_auto_commit=False, fetch_max_bytes=2**25
    )
    try:
        parts = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while any(consumer.position(part) < ends[part] for part in parts):
            for records in consumer.poll(1_000).values():
                yield from (record.value for record in records)
    finally:
        consumer.close()
