"""Requests of remote write for benchmarks, one sample a series, made faster than by bindings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import cramjam
import numpy as np

from varve.gateway.protobuf import delimited_field, write_varint

REQUEST = 5_000
"""Samples of a request."""

Labels = Mapping[int, Sequence[tuple[str, str]]]


class RequestsV1:
    """Writes requests of one sample a series."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._heads: dict[int, bytes] = {}

    def write(self, ids: Sequence[int], ts: Sequence[int], values: np.ndarray) -> bytes:
        times = _times(ts)
        heads = [self._heads.get(i) or self._head(i) for i in ids]
        return b"".join(map(b"".join, zip(heads, _doubles(values), times, strict=True)))

    def _head(self, series_id: int) -> bytes:
        """What is before the sample's value."""
        pairs = [
            delimited_field(1, delimited_field(1, n.encode()) + delimited_field(2, v.encode()))
            for n, v in self._labels[series_id]
        ]
        return self._heads.setdefault(series_id, _series(1, b"".join(pairs)))


class RequestsV2:
    """The same in version 2.0."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def write(self, ids: Sequence[int], ts: Sequence[int], values: np.ndarray) -> bytes:
        symbols = {"": 0}
        heads = []
        for series_id in ids:
            texts = [text for pair in self._labels[series_id] for text in pair]
            refs = b"".join(write_varint(symbols.setdefault(t, len(symbols))) for t in texts)
            heads.append(_series(5, delimited_field(1, refs)))
        parts = map(b"".join, zip(heads, _doubles(values), _times(ts), strict=True))
        return b"".join([*(delimited_field(4, text.encode()) for text in symbols), *parts])


_SAMPLE_BYTES = 16


def _series(number: int, labels: bytes) -> bytes:
    """A series up to the value of its sample, which is its last field."""
    size = write_varint(len(labels) + 2 + _SAMPLE_BYTES)
    return write_varint(number << 3 | 2) + size + labels + bytes([0x12, _SAMPLE_BYTES, 0x09])


def _doubles(values: np.ndarray) -> list[bytes]:
    raw = values.tobytes()
    return [raw[at : at + 8] for at in range(0, len(raw), 8)]


def _times(ts: Sequence[int]) -> list[bytes]:
    """The field of each timestamp: 7 bytes for any of our days."""
    known = {at: b"\x10" + write_varint(at) for at in set(ts)}
    return [known[at] for at in ts]


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


class ManySeries(Mapping[int, Sequence[tuple[str, str]]]):
    """The labels of as many series as one asks for, each made when it is asked for."""

    def __init__(self, **labels: str) -> None:
        """labels: further ones of every series, whose names come behind the others."""
        self._labels = sorted(labels.items())

    def __getitem__(self, n: int) -> Sequence[tuple[str, str]]:
        return [
            ("__name__", f"http_requests_total_{n % 500}"), ("code", "200"),
            ("handler", "/api/v1/query"), ("instance", f"host-{n // 500}:9100"),
            ("job", "node"), ("region", "eu-central-1"), *self._labels,
        ]  # fmt: skip

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Rounds:
    """Requests with a sample of each series. No two requests have a time in common."""

    def __init__(self, series: int, request: int = REQUEST, **labels: str) -> None:
        """request: samples of each. labels: further ones of every series."""
        self.labels = ManySeries(**labels)
        self.times: dict[int, range] = {}
        """By the time of a request, the numbers of its series."""
        self._writer = RequestsV1(self.labels)
        self._series, self._request = series, request
        self._ts = int(time.time() * 1000) - 600_000

    def next(self) -> list[bytes]:
        """The requests of the next round."""
        found = []
        for first in range(0, self._series, self._request):
            self._ts += 1
            numbers = range(first, min(first + self._request, self._series))
            self.times[self._ts] = numbers
            times = [self._ts] * len(numbers)
            found.append(snappy(self._writer.write(numbers, times, self.values(numbers))))
        return found

    def values(self, numbers: range) -> np.ndarray:
        """The values of a request's samples, the same in each round."""
        return np.random.default_rng(numbers.start).normal(100, 10, len(numbers))

    def bodies(self, samples: int) -> list[bytes]:
        """Requests of whole rounds with so many samples at least."""
        found = []
        for _ in range(-(-samples // self._series)):
            found += self.next()
        return found
