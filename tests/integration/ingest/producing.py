"""Producers of numbered samples: every (source, number) can be found again in the tables."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from kafka import KafkaProducer

from varve.ingest import arrow_codec
from varve.model.identity import SeriesDefinition, define

METRIC = "produced"
LIMITED = "limited"
GARBAGE_EVERY = 7
LIMITED_EVERY = 10
# New series of one message of the limited metric.
LIMITED_SERIES = 3


class Source:
    """One producer. Sample n has the value n; ten series at a time, new ones every 1,000 samples,
    so that a series has no timestamp twice and registration never ends.
    """

    def __init__(
        self, name: str, broker: str, topic: str, partition: int, begin_ms: int, *, arrow: bool
    ) -> None:
        self.name, self.topic, self.partition = name, topic, partition
        self.begin_ms, self.arrow = begin_ms, arrow
        self.sent = 0
        self._told: set[int] = set()
        self._kafka = KafkaProducer(bootstrap_servers=broker, linger_ms=2)

    def send(self, samples: int) -> None:
        """The next so many in one message."""
        numbers = range(self.sent, self.sent + samples)
        self._send(self._as_arrow(numbers) if self.arrow else self._as_json(numbers))
        self.sent += samples

    def send_garbage(self, number: int) -> None:
        self._send(b"garbage %d" % number)

    def send_limited(self, first: int, samples: int) -> Any:
        """Samples of as many series of their own of a metric that has a limit; the future of their
        message.
        """
        records = [
            {"metric": LIMITED, "value": n, "timestamp": self.begin_ms, "tags": {"n": str(n)}}
            for n in range(first, first + samples)
        ]
        return self._send(json.dumps(records).encode())

    def flush(self) -> None:
        self._kafka.flush()

    def close(self) -> None:
        self._kafka.close()

    def _send(self, message: bytes) -> Any:
        return self._kafka.send(self.topic, message, partition=self.partition)

    def _tags(self, number: int) -> dict[str, str]:
        return {"source": self.name, "lane": f"{number % 10}-{number // 1000}"}

    def _ts(self, number: int) -> int:
        return self.begin_ms + number // 10

    def _as_json(self, numbers: range) -> bytes:
        records = [
            {"metric": METRIC, "value": float(n), "timestamp": self._ts(n), "tags": self._tags(n)}
            for n in numbers
        ]
        return json.dumps(records).encode()

    def _as_arrow(self, numbers: range) -> bytes:
        lanes: dict[tuple[int, int], SeriesDefinition] = {}
        for n in numbers:
            if (lane := (n % 10, n // 1000)) not in lanes:
                lanes[lane] = define(METRIC, self._tags(n))
        owners = [lanes[n % 10, n // 1000] for n in numbers]
        fresh = [d for d in lanes.values() if d.series_id not in self._told]
        self._told.update(d.series_id for d in fresh)
        columns = [
            pa.array([d.series_id for d in owners], pa.int64()),
            pa.array([d.check for d in owners], pa.int32()),
            pa.array([self._ts(n) for n in numbers], pa.int64()),
            pa.array([float(n) for n in numbers], pa.float64()),
        ]
        schema = arrow_codec.wire_schema("samples")
        return arrow_codec.write(pa.Table.from_arrays(columns, schema=schema), fresh)


class Sources:
    """Four producers: JSON and Arrow into the two partitions of the bulk topic, JSON into the
    critical one. Of every ten messages one or two are garbage and one is of the limited metric.
    """

    def __init__(self, broker: str, bulk: str, critical: str, begin_ms: int) -> None:
        self.all = [
            Source("json-0", broker, bulk, 0, begin_ms, arrow=False),
            Source("json-1", broker, bulk, 1, begin_ms, arrow=False),
            Source("arrow", broker, bulk, 1, begin_ms, arrow=True),
            Source("critical", broker, critical, 0, begin_ms, arrow=False),
        ]
        self.garbage = 0
        self.limited: list[Any] = []
        """The future of each limited sample's message."""
        self._messages = 0

    @property
    def sent(self) -> int:
        """Samples without garbage and without the limited metric."""
        return sum(source.sent for source in self.all)

    def send(self, messages: int, samples: int) -> None:
        """Blocks until the broker has them; each holds so many samples."""
        for _ in range(messages):
            self._messages += 1
            source = self.all[self._messages % len(self.all)]
            if self._messages % GARBAGE_EVERY == 0:
                source.send_garbage(self.garbage)
                self.garbage += 1
            elif self._messages % LIMITED_EVERY == 0:
                sent = source.send_limited(len(self.limited), LIMITED_SERIES)
                self.limited += [sent] * LIMITED_SERIES
            else:
                source.send(samples)
        for source in self.all:
            source.flush()

    def close(self) -> None:
        for source in self.all:
            source.close()
