"""Groups of metrics that jobs push, which stay until they are deleted. Pure: times are arguments.

Source: prometheus/pushgateway, README.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from varve.gateway.exposition.samples import Exposition
from varve.gateway.write_request import STALE, Labels, WriteRequest
from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.promql.histograms.native_histogram import FloatHistogram

GroupKey = tuple[tuple[str, str], ...]
"""Labels of a group, job among them, sorted."""

_TIMES = ("push_time_seconds", "push_failure_time_seconds")
_TIME = Metadata("gauge", "seconds")


class InvalidPush(ValueError):
    """What is pushed cannot be taken; the text says why."""


@dataclass
class _Family:
    metadata: Metadata
    samples: dict[GroupKey, float | FloatHistogram] = field(default_factory=dict)


@dataclass
class _Group:
    families: dict[str, _Family] = field(default_factory=dict)
    pushed_s: float = 0.0
    failed_s: float = 0.0


class Groups:
    """All groups. For one thread."""

    def __init__(self, most: int = 100_000) -> None:
        """most: series of all groups; a push beyond them is refused."""
        self._groups: dict[GroupKey, _Group] = {}
        self._most = most
        self.changed = False
        """Whether anything has changed since it was last written to a file."""

    def __len__(self) -> int:
        return len(self._groups)

    def push(
        self, key: GroupKey, found: Exposition, now_ms: int, *, replaces_all: bool
    ) -> WriteRequest:
        """Puts metrics into a group, in place of those of the same names, or of all there are.
        Returns the group as of now, and the ends of series that are gone. Raises InvalidPush; then
        nothing has changed.
        """
        families = self._families(key, found)
        group = self._groups.get(key) or _Group()
        before = set(_series(group))
        kept = {} if replaces_all else dict(group.families)
        added = sum(len(family.samples) for family in families.values())
        if self._count() - len(before) + added > self._most:
            raise InvalidPush(f"groups have {self._most:,} series, and there is no room for more")
        self._groups[key] = group
        self.changed = True
        group.families = kept | families
        group.pushed_s = now_ms / 1000
        request = self.shown(now_ms, [key])
        for labels in sorted(before - set(_series(group))):
            request.add(labels, STALE, now_ms)
        return request

    def note_failure(self, key: GroupKey, now_ms: int) -> None:
        """Notes the time of a push that could not be taken; a group without metrics shows it."""
        self._groups.setdefault(key, _Group()).failed_s = now_ms / 1000
        self.changed = True

    def delete(self, key: GroupKey, now_ms: int) -> WriteRequest:
        """Takes a group away, if there is one. Returns the ends of its series."""
        request = WriteRequest()
        group = self._groups.pop(key, None)
        if group is not None:
            self.changed = True
            times = [_labelled(key, name) for name in _TIMES]
            for labels in [*sorted(_series(group)), *times]:
                request.add(labels, STALE, now_ms)
        return request

    def shown(self, now_ms: int, keys: Iterable[GroupKey] | None = None) -> WriteRequest:
        """Everything that groups hold, as of now."""
        request = WriteRequest()
        for key in list(self._groups if keys is None else keys):
            group = self._groups[key]
            for family in group.families.values():
                for labels, value in family.samples.items():
                    request.add(labels, value, now_ms, metadata=family.metadata)
            for name, seconds in zip(_TIMES, (group.pushed_s, group.failed_s), strict=True):
                request.add(_labelled(key, name), seconds, now_ms, metadata=_TIME)
        return request

    def save(self, file: Path) -> None:
        """Writes all groups, whole or not at all."""
        draft = file.with_suffix(".new")
        with draft.open("w") as out:
            json.dump([_written(key, group) for key, group in self._groups.items()], out)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        self.changed = False

    def load(self, file: Path) -> None:
        """Reads what was written before. Raises OSError, ValueError."""
        if not file.exists():
            return
        for entry in json.loads(file.read_text()):
            families = {}
            for name, (kind, unit, text, samples) in entry["families"].items():
                family = families[name] = _Family(Metadata(kind, unit, text))
                for labels, value in samples:
                    family.samples[_key(labels)] = float.fromhex(value)
            group = _Group(families, entry["pushed_s"], entry["failed_s"])
            self._groups[_key(entry["labels"])] = group

    def _families(self, key: GroupKey, found: Exposition) -> dict[str, _Family]:
        families: dict[str, _Family] = {}
        for sample in found.samples:
            if sample.ts_ms is not None:
                raise InvalidPush("what is pushed must not have timestamps")
            name = sample.family
            if name in _TIMES:
                raise InvalidPush(f"{name} is said by the gateway alone")
            family = families.get(name)
            if family is None:
                family = families[name] = _Family(found.metadata.get(name, NOTHING_KNOWN))
            labels = _key(dict(sample.labels) | dict(key))
            if labels in family.samples:
                raise InvalidPush(f"{dict(labels)['__name__']} comes twice with the same labels")
            family.samples[labels] = sample.value
        return families

    def _count(self) -> int:
        return sum(sum(1 for _ in _series(group)) for group in self._groups.values())


def _labelled(key: GroupKey, name: str) -> Labels:
    return _key(dict(key) | {"__name__": name})


def _key(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> GroupKey:
    return tuple(sorted((n, v) for n, v in dict(labels).items() if v))


def _series(group: _Group) -> Iterator[GroupKey]:
    return (labels for family in group.families.values() for labels in family.samples)


def _written(key: GroupKey, group: _Group) -> dict[str, object]:
    """Native histograms are left out: they come again with the next push."""
    families = {
        name: (
            *(family.metadata.type, family.metadata.unit, family.metadata.help),
            [(k, v.hex()) for k, v in family.samples.items() if isinstance(v, float)],
        )
        for name, family in group.families.items()
    }
    return {
        "labels": key,
        "families": families,
        "pushed_s": group.pushed_s,
        "failed_s": group.failed_s,
    }
