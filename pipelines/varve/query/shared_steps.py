"""Steps of range queries kept in Redis as well, for all query services that read the same tables.

A service asks Redis for what it has not computed itself. An entry is bytes of a layout of its own,
whose lengths are checked: whatever cannot be read counts as absent, and nothing that is read is
run. While Redis does not answer, each service has its own steps alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import redis
import zstandard

from varve.promql.labels.label_table import LabelTable
from varve.query.step_cache import KeptSteps, Key, StepCache

_LAYOUT: Final = b"varve-steps-2"
"""Changes with the layout, and with whatever makes another answer of the same steps."""
_HEAD: Final = struct.Struct("<QQQQQ")  # bytes of versions, of labels, selectors, series, steps
_TIMEOUT_S: Final = 0.1
"""For an answer of Redis, which queries wait for."""
_PAUSE_S: Final = 5.0
"""After a failure it is not asked for so long."""
_KEPT_S: Final = 3_600
_MOST_BYTES: Final = 8 << 20
"""Of an entry, compressed."""
_MOST_UNPACKED: Final = 8 * _MOST_BYTES
_UNREADABLE: Final = (
    zstandard.ZstdError,
    struct.error,
    ValueError,
    AttributeError,
    TypeError,
    RecursionError,
)

log = logging.getLogger(__name__)


class SharedSteps:
    """A StepCache in front of Redis. Safe to use from many threads; an error of Redis is logged."""

    def __init__(
        self, own: StepCache, url: str, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """url: redis://, rediss:// for TLS, or unix://. ValueError if it is none of these."""
        self._own = own
        self._client = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
        self._now_s = now_s
        self._pause_until_s = float("-inf")
        self._lock = threading.Lock()

    def get(self, key: Key) -> KeptSteps | None:
        own = self._own.get(key)
        if own is not None or self._is_paused():
            return own
        try:
            packed = self._client.get(name_of(key))
        except (redis.RedisError, OSError) as err:
            self._failed(err)
            return None
        return unpacked(packed) if isinstance(packed, bytes) else None

    def put(self, key: Key, steps: KeptSteps) -> None:
        self._own.put(key, steps)
        if self._is_paused() or steps.nbytes > _MOST_UNPACKED:
            return
        body = packed(steps)
        if len(body) > _MOST_BYTES:
            return
        try:
            self._client.set(name_of(key), body, ex=_KEPT_S)
        except (redis.RedisError, OSError) as err:
            self._failed(err)

    def close(self) -> None:
        """Ends the connections to Redis; what is kept there stays for other services."""
        self._client.close()
        self._own.close()

    def _is_paused(self) -> bool:
        with self._lock:
            return self._now_s() < self._pause_until_s

    def _failed(self, err: Exception) -> None:
        with self._lock:
            self._pause_until_s = self._now_s() + _PAUSE_S
        log.warning("Redis is not asked for kept steps for %g s: %s", _PAUSE_S, err)


def name_of(key: Key) -> bytes:
    """The name of an entry; what is asked for cannot be told from it."""
    return _LAYOUT + b":" + hashlib.sha256(json.dumps(key).encode()).hexdigest().encode()


def packed(steps: KeptSteps) -> bytes:
    """The steps as bytes."""
    labels = json.dumps([dict(one) for one in steps.labels.labels()]).encode()
    versions = json.dumps(dict(steps.versions)).encode()
    series, count = steps.values.shape
    whole = (
        _HEAD.pack(len(versions), len(labels), len(steps.marks), series, count),
        versions,
        labels,
        np.ascontiguousarray(steps.marks, dtype="<u8").tobytes(),
        np.ascontiguousarray(steps.times, dtype="<i8").tobytes(),
        np.ascontiguousarray(steps.values, dtype="<f8").tobytes(),
        np.packbits(steps.present, axis=None).tobytes(),
    )
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(b"".join(whole))


def unpacked(body: bytes) -> KeptSteps | None:
    """The steps that `packed` made bytes of; None for any other bytes."""
    try:
        if not 0 < zstandard.frame_content_size(body) <= _MOST_UNPACKED:
            return None
        raw = zstandard.ZstdDecompressor().decompress(body)
        head, size, selectors, series, count = _HEAD.unpack_from(raw)
        at = _HEAD.size + head
        columns = 8 * count * (selectors + 1 + series)
        if len(raw) != at + size + columns + (series * count + 7) // 8:
            return None
        versions = json.loads(raw[_HEAD.size : at])
        labels = json.loads(raw[at : at + size])
        if not all(type(version) is int for version in versions.values()):
            return None
        rows = [tuple(sorted(one.items())) for one in labels]
        if len(set(rows)) != series or not all(
            isinstance(text, str) for row in rows for pair in row for text in pair
        ):
            return None
        at += size
        marks = np.frombuffer(raw, "<u8", selectors * count, at).astype(np.uint64)
        at += 8 * selectors * count
        times = np.frombuffer(raw, "<i8", count, at).astype(np.int64)
        values = np.frombuffer(raw, "<f8", series * count, at + 8 * count)
        at += 8 * count + 8 * series * count
        bits = np.unpackbits(np.frombuffer(raw, np.uint8, offset=at), count=series * count)
    except _UNREADABLE as err:
        log.warning("an entry of Redis is none of kept steps: %s", err)
        return None
    shape = (series, count)
    table = LabelTable.of([dict(row) for row in rows])
    kept = {row: index for index, row in enumerate(rows)}
    values = values.astype(np.float64).reshape(shape)
    present = bits.astype(np.bool_).reshape(shape)
    return KeptSteps(versions, times, marks.reshape(selectors, count), table, kept, values, present)
