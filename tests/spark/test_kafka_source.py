"""The rows of Spark's Kafka source as messages."""

import pyarrow as pa

from varve.kafka.message import Message
from varve.spark.kafka_source import messages

HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def batch(*rows, headers=None):
    topics, partitions, offsets, stamps, values = zip(*rows, strict=True)
    columns = {
        "topic": pa.array(topics, pa.string()),
        "partition": pa.array(partitions, pa.int32()),
        "offset": pa.array(offsets, pa.int64()),
        "timestamp_ms": pa.array(stamps, pa.int64()),
        "value": pa.array(values, pa.binary()),
        "headers": pa.array(headers or [None] * len(rows), HEADERS),
    }
    return pa.record_batch(columns)


def test_every_row_is_a_message_whatever_topics_partitions_and_tombstones_it_mixes():
    of_one = [("bulk", 0, n, 10 + n, b"%d" % n) for n in range(3)]
    mixed = [("bulk", 1, 7, -1, None), ("metric-series", 0, 1 << 62, 1 << 50, b"")]
    headers = [None, [{"key": "a", "value": b"1"}, {"key": "a", "value": None}]]
    batches = [batch(*of_one), batch(*mixed, headers=headers)]

    found = list(messages(batches))

    assert found == [
        *(Message(*row) for row in of_one),
        Message(*mixed[0], []),
        Message(*mixed[1], [("a", b"1"), ("a", None)]),
    ]
    assert all(type(n) is int for message in found for n in message[1:4])


def test_a_slice_of_a_batch_gives_its_own_rows_and_headers():
    rows = [("bulk", 0, n, n, b"v") for n in range(4)]
    headers = [[{"key": str(n), "value": b"x"}] for n in range(4)]

    found = list(messages([batch(*rows, headers=headers).slice(2, 1)]))

    assert found == [Message(*rows[2], [("2", b"x")])]
