"""Readings of a target as samples: definitions are kept, series that are gone are marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from varve.client import Sample, SeriesDefinition, define
from varve.model.identity import MetricType


class Family(NamedTuple):
    """What all series of a metric share."""

    metric: str
    type: MetricType
    unit: str
    help: str


class Reading(NamedTuple):
    """A value that was read. Labels may hold bytes that are no UTF-8, by surrogateescape."""

    family: Family
    labels: Mapping[str, str]
    value: float


class Unreadable(NamedTuple):
    """A part of a target that could not be read: a mount, a disk, an interface."""

    what: str
    why: str


Part = Reading | Unreadable


_Key = tuple[str, tuple[tuple[str, str], ...]]


class Target:
    """A target with its job and instance. It remembers which series the last scrape had."""

    def __init__(self, job: str, instance: str) -> None:
        self._labels = {"job": job, "instance": instance}
        self._definitions: dict[_Key, SeriesDefinition] = {}
        self._living: dict[int, SeriesDefinition] = {}

    def samples(self, readings: Iterable[Reading], ts_ms: int) -> list[Sample]:
        """A sample for each reading, all at ts_ms, and a marker for each series that is gone."""
        readings = [_as_text(reading) for reading in readings]
        # Only the last scrape's are kept: interfaces of containers come and go without end.
        self._definitions = {_key(r): self._define(r) for r in readings}
        samples = [Sample(self._definitions[_key(r)], ts_ms, r.value) for r in readings]
        living = {s.series.series_id: s.series for s in samples}
        ended = [Sample(s, ts_ms, None) for i, s in self._living.items() if i not in living]
        self._living = living
        return samples + ended

    def end(self, ts_ms: int) -> list[Sample]:
        """A staleness marker for every living series: nobody measures from here on."""
        return self.samples((), ts_ms)

    def _define(self, reading: Reading) -> SeriesDefinition:
        known = self._definitions.get(_key(reading))
        if known is not None:
            return known
        metric, kind, unit, text = reading.family
        labels = {**reading.labels, **self._labels}
        return define(metric, labels, metric_type=kind, unit=unit, help_text=text)


def gauge(metric: str, unit: str, text: str) -> Family:
    return Family(metric, "gauge", unit, text)


def counter(metric: str, unit: str, text: str) -> Family:
    return Family(metric, "counter", unit, text)


def as_text(name: str) -> str:
    r"""A name that the system gave, which may be any bytes, as a label's value.

    A byte that is no UTF-8 becomes U+FFFD and its two hexadecimal digits, so that names that
    differ in such bytes alone stay two.

    >>> as_text("disk"), as_text(os.fsdecode(b"k\xf6ln"))
    ('disk', 'k\ufffdF6ln')
    """
    if name.isascii():
        return name
    return "".join(
        f"\N{REPLACEMENT CHARACTER}{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c
        for c in name
    )


def _as_text(reading: Reading) -> Reading:
    if all(value.isascii() for value in reading.labels.values()):
        return reading
    labels = {name: as_text(value) for name, value in reading.labels.items()}
    return reading._replace(labels=labels)


def _key(reading: Reading) -> _Key:
    return reading.family.metric, tuple(sorted(reading.labels.items()))
