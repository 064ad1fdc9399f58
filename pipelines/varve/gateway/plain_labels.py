"""Identities of new series whose labels need no second look: a kernel's texts, hashed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from varve.gateway import kernel_labels
from varve.gateway.negotiation import Version
from varve.model.identity import metric_prefix

CHUNK = 1_000
"""Series that are read at a time."""

_TEXT_BYTES = 2 << 20
_TEXT_BITS = 52
_TEXT_MASK = (1 << _TEXT_BITS) - 1

Identity = tuple[int, int, str, tuple[tuple[str, str], ...], int]
"""series_id, check, metric and tags sorted by name, as SeriesDefinition has them; and how long the
canonical text is, which no name or value is longer than."""


class PlainLabels:
    """Reads labels of listed series. Not to be shared by threads."""

    def __init__(self) -> None:
        self._spans = np.empty((CHUNK * kernel_labels.MOST_LABELS + 1, 4), np.int64)
        self._texts = np.empty(_TEXT_BYTES, np.uint8)
        self._span_ends = np.empty(CHUNK, np.int64)
        self._text_ends = np.empty(CHUNK, np.int64)

    def identities(
        self, body: np.ndarray, raw: bytes, version: Version, places: np.ndarray, listed: np.ndarray
    ) -> Iterator[Identity | None]:
        """The identity of each listed series, at most CHUNK of them; None if it needs a second
        look. raw: the bytes of body. places: its symbols.
        """
        count = len(listed)
        kernel_labels.read_labels(
            body, int(version), places, listed, self._spans, self._span_ends, self._texts,
            self._text_ends,
        )  # fmt: skip
        span_ends = self._span_ends[:count].tolist()
        text_ends = self._text_ends[:count].tolist()
        spans = self._spans[: span_ends[-1]].tolist()
        texts = self._texts[: text_ends[-1]].tobytes()
        span = text = 0
        for span_end, text_end in zip(span_ends, text_ends, strict=True):
            if span_end == span:
                yield None
                continue
            _, _, begin, end = spans[span]
            metric = raw[begin:end].decode()
            digest = blake2b(texts[text:text_end]).digest()
            unsigned = _prefix(metric) << _TEXT_BITS | int.from_bytes(digest[:8]) & _TEXT_MASK
            tags = tuple(
                [
                    (raw[n0:n1].decode(), raw[v0:v1].decode())
                    for n0, n1, v0, v1 in spans[span + 1 : span_end]
                ]
            )
            series_id = unsigned - (1 << 64) if unsigned >> 63 else unsigned
            check = int.from_bytes(digest[8:12], signed=True)
            yield series_id, check, metric, tags, text_end - text
            span, text = span_end, text_end


_prefix = lru_cache(maxsize=10_000)(metric_prefix)
