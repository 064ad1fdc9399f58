"""Samples as Arrow messages, encoded ahead, at a million a second and more."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import kafka.record.default_records as records
import numba
import numpy as np
import pyarrow as pa
from kafka import KafkaProducer

from varve.ingest import arrow_codec
from varve.model.identity import SeriesDefinition, define

MESSAGE_SAMPLES = 1_000
PARTITIONS = 4
WAITING_MESSAGES = 2_000
# A marker in place of the timestamps, to find them in an encoded message.
_MARKER = 0x5AFE_5AFE_5AFE_5AFE
_CASTAGNOLI = 0x82F63B78


class Firehose:
    """Series of one or many metrics, 1,000 to a message, each message of one timestamp.

    The first message of a series defines it. Messages are made of one encoded ahead, by writing
    other timestamps and values into it.
    """

    def __init__(self, broker: str, topic: str, series: Sequence[SeriesDefinition]) -> None:
        _quicken()
        self._topic = topic
        self._kafka = KafkaProducer(
            bootstrap_servers=broker,
            linger_ms=20,
            batch_size=2**20,
            max_request_size=2**24,
        )
        groups = [series[n : n + MESSAGE_SAMPLES] for n in range(0, len(series), MESSAGE_SAMPLES)]
        self._first = [Template(group, defined=True) for group in groups]
        self._later = [Template(group, defined=False) for group in groups]
        self._sizes = [len(group) for group in groups]
        self._values = np.random.default_rng(1).normal(100, 10, 2**16)
        self._messages = 0
        self._ts_ms = 0
        self.sent = 0

    def send(self, ts_ms: int) -> int:
        """The next message; how many samples are in it. Its time is that at which its round over
        all series began, ts_ms, or a millisecond after the round before: no series has two samples
        of one time.
        """
        group, round_ = self._messages % len(self._sizes), self._messages // len(self._sizes)
        if group == 0:
            self._ts_ms = max(ts_ms, self._ts_ms + 1)
        message = (self._later if round_ else self._first)[group]
        size = self._sizes[group]
        at = self._messages % (len(self._values) - size)
        value = message.at(self._ts_ms, self._values[at : at + size])
        self._kafka.send(self._topic, value, partition=group % PARTITIONS)
        self._messages += 1
        self.sent += size
        if self._messages % WAITING_MESSAGES == 0:
            # The client's buffer has no bound of its own.
            self._kafka.flush()
        return size

    def flush(self) -> None:
        self._kafka.flush()

    def run(
        self,
        rate: float,
        seconds: float,
        now_ms: Callable[[], int],
        on_sent: Callable[[], None],
    ) -> float:
        """So many samples a second for so long; the seconds it took, on_sent called meanwhile."""
        begun, sent = time.monotonic(), 0
        while sent < rate * seconds:
            behind = (time.monotonic() - begun) * rate - sent
            if behind < 0:
                time.sleep(min(0.05, -behind / rate))
                continue
            sent += self.send(now_ms())
            on_sent()
        self.flush()
        return time.monotonic() - begun

    def close(self) -> None:
        self._kafka.close()


class Template:
    """A message of one sample a series, whose timestamps and values can be replaced."""

    def __init__(self, group: Sequence[SeriesDefinition], *, defined: bool) -> None:
        columns = [
            pa.array([d.series_id for d in group], pa.int64()),
            pa.array([d.check for d in group], pa.int32()),
            pa.array([_MARKER] * len(group), pa.int64()),
            pa.array([float(_CASTAGNOLI)] * len(group), pa.float64()),
        ]
        table = pa.Table.from_arrays(columns, schema=arrow_codec.wire_schema("samples"))
        self._message = arrow_codec.write(table, group if defined else ())
        self._stamps = self._message.index(struct.pack("<q", _MARKER) * len(group))
        self._values = self._message.index(struct.pack("<d", _CASTAGNOLI) * len(group))
        self._size = 8 * len(group)

    def at(self, ts_ms: int, values: np.ndarray) -> bytes:
        message = bytearray(self._message)
        message[self._stamps : self._stamps + self._size] = struct.pack("<q", ts_ms) * len(values)
        message[self._values : self._values + self._size] = values.tobytes()
        return bytes(message)


def series_of(metrics: int, series: int, name: str = "load") -> list[SeriesDefinition]:
    """So many series in all, of so many metrics."""
    return [
        define(f"{name}_{n % metrics}", {"instance": f"host-{n // metrics}", "zone": "a"})
        for n in range(series)
    ]


def _quicken() -> None:
    """kafka-python sums its batches up in Python, at 8 MB/s, where no library does it: the load of
    this benchmark must not take all cores.
    """
    table = _table()

    @numba.njit("uint32(uint8[::1], uint32[::1])")
    def checksum(data: Any, table: Any) -> Any:
        crc = np.uint32(0xFFFFFFFF)
        for byte in data:
            crc = table[(crc ^ byte) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
        return crc ^ np.uint32(0xFFFFFFFF)

    def crc32c(view: Any) -> int:
        return int(checksum(np.frombuffer(bytearray(view), np.uint8), table))

    assert crc32c(b"123456789") == 0xE3069283
    records.calc_crc32c = crc32c


def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_CASTAGNOLI), table >> 1)
    return table.astype(np.uint32)
