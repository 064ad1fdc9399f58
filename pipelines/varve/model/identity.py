"""Identity of a series: its canonical text and the two hashes stored with its samples.

series_id is 12 bits of a hash of the metric name, then 52 bits of a hash of the canonical text:
sorted by it, the series of one metric lie together in every file. check is 32 more bits of the
text's hash and tells two series that share an id apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

MetricType = Literal["counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"]

_TEXT_BITS = 52
_TEXT_MASK = (1 << _TEXT_BITS) - 1
# What tells apart the parts of a canonical text.
_IN_QUOTES = re.compile(r'["\\\n,={}]')
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True, slots=True)
class SeriesDefinition:
    """What a series_id stands for: one row of the table series, less the times it was seen."""

    series_id: int
    check: int
    metric: str
    tags: tuple[tuple[str, str], ...]
    """Sorted by name, without `__name__` and without empty values."""
    type: str = "unknown"
    unit: str = ""
    help: str = ""


def canonical(metric: str, tags: Mapping[str, str]) -> str:
    r"""`name{k="v",...}`, labels sorted by name; `\`, `"` and newline escaped in values.

    An empty value is an absent label and is left out. A name that holds a newline or one of
    `"\,={}` is quoted and escaped as values are, so that no two series have one text.

    >>> canonical("up", {"job": "node", "instance": "a:1", "zone": ""})
    'up{instance="a:1",job="node"}'
    >>> canonical("up", {'x="1",y': "2"})
    'up{"x=\\"1\\",y"="2"}'
    """
    kept = [(k, v) for k, v in sorted(tags.items()) if v]
    if _IN_QUOTES.search("".join([metric, *tags])):
        metric, kept = _quoted(metric), [(_quoted(k), v) for k, v in kept]
    labels = ",".join([f'{k}="{v.translate(_ESCAPES)}"' for k, v in kept])
    return f"{metric}{{{labels}}}"


def identify(metric: str, tags: Mapping[str, str]) -> tuple[int, int]:
    """(series_id, check) of a series, signed 64 and 32 bits."""
    digest = hashlib.blake2b(canonical(metric, tags).encode()).digest()
    unsigned = metric_prefix(metric) << _TEXT_BITS | int.from_bytes(digest[:8]) & _TEXT_MASK
    return _signed(unsigned), int.from_bytes(digest[8:12], signed=True)


def identities(
    metrics: Sequence[str], codes: npt.NDArray[np.int64], texts: Iterable[bytes]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """The same of many series by their canonical texts. codes: which of the metrics each is of."""
    digests = b"".join([hashlib.blake2b(text).digest() for text in texts])
    prefixes = np.array([_prefix(metric) for metric in metrics], np.uint64) << np.uint64(_TEXT_BITS)
    of_text = np.frombuffer(digests, ">u8")[::8].astype(np.uint64) & np.uint64(_TEXT_MASK)
    checks = np.frombuffer(digests, ">i4")[2::16].astype(np.int32)
    return (prefixes[codes] | of_text).view(np.int64), checks


def define(
    metric: str,
    tags: Mapping[str, str],
    *,
    metric_type: str = "unknown",
    unit: str = "",
    help_text: str = "",
) -> SeriesDefinition:
    """The definition of a series; tags with an empty value are left out."""
    series_id, check = identify(metric, tags)
    kept = tuple(sorted((k, v) for k, v in tags.items() if v))
    return SeriesDefinition(series_id, check, metric, kept, metric_type, unit, help_text)


def metric_prefix(metric: str) -> int:
    """The 12 bits that all series of a metric share, 0 to 4095."""
    return int.from_bytes(hashlib.blake2b(metric.encode()).digest()[:8]) >> _TEXT_BITS


def id_range(metric: str) -> tuple[int, int]:
    """Least and greatest series_id a series of the metric can have, both inclusive."""
    first = metric_prefix(metric) << _TEXT_BITS
    return _signed(first), _signed(first | _TEXT_MASK)


def _quoted(name: str) -> str:
    return f'"{name.translate(_ESCAPES)}"' if _IN_QUOTES.search(name) else name


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


_prefix = lru_cache(maxsize=10_000)(metric_prefix)
