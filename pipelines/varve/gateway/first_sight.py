"""What a series is that the table does not know: its labels, judged, and what follows from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from varve.client.messages import partition_of
from varve.gateway.negotiation import Version
from varve.gateway.protobuf import fields, signed, varints
from varve.gateway.refusals import Refusal
from varve.ingest.limits import Limits
from varve.model.identity import SeriesDefinition, identify
from varve.model.metadata import NOTHING_KNOWN, Metadata, metadata_of


class InvalidSeries(ValueError):
    """A series is refused; the text says why."""

    def __init__(self, why: Refusal, text: str) -> None:
        super().__init__(text)
        self.why = why


TYPE_NAMES = (
    "unknown",
    "counter",
    "gauge",
    "histogram",
    "gaugehistogram",
    "summary",
    "info",
    "stateset",
)
_MOST_METADATA = 100_000
_MOST_TEXT = 4_096
"""Characters of a unit or a help that are kept."""


class KnownMetadata:
    """The newest metadata of each metric family; an old one is dropped for room."""

    def __init__(self) -> None:
        self._of: dict[str, Metadata] = {}

    def put(self, name: str, metadata: Metadata) -> None:
        if len(self._of) >= _MOST_METADATA and name not in self._of:
            del self._of[next(iter(self._of))]
        self._of[name] = metadata

    def of(self, metric: str) -> Metadata:
        """That of a metric: a series of a family's histogram or summary has a suffix."""
        return metadata_of(metric, self._of)

    def told(self, said: Mapping[str, Metadata]) -> dict[str, Metadata]:
        """Puts what adds something to what is known, and returns it."""
        news = {}
        for name, one in said.items():
            known = self._of.get(name, NOTHING_KNOWN)
            if (filled := known.filled_by(one)) != known:
                self.put(name, filled)
                news[name] = filled
        return news

    def forget(self, names: Iterable[str]) -> None:
        """Knows nothing of these metrics any more."""
        for name in names:
            self._of.pop(name, None)

    def described(
        self, series_id: int, check: int, metric: str, tags: tuple[tuple[str, str], ...]
    ) -> SeriesDefinition:
        """The definition of a series, with what is known of its metric."""
        known = self.of(metric)
        kind = "histogram" if known.type == "gaugehistogram" else known.type
        return SeriesDefinition(series_id, check, metric, tags, kind, known.unit, known.help)


@dataclass(frozen=True, slots=True)
class Input:
    """Where a request comes from, as far as identity is concerned.

    external_labels: added to each series that has no label of the name.
    """

    name: str = ""
    external_labels: tuple[tuple[str, str], ...] = ()

    def seeds(self) -> np.ndarray:
        """Two words that tell its series from those of other inputs."""
        return _seeds(self.external_labels)


@cache
def _seeds(external_labels: tuple[tuple[str, str], ...]) -> np.ndarray:
    text = repr(external_labels).encode() if external_labels else b""
    return np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), np.uint64)


@dataclass(frozen=True, slots=True)
class Targets:
    """Which message a series' samples go to: partitions of the bulk topic, then of the critical
    one.
    """

    bulk: int
    critical: int = 0
    is_critical: Callable[[str, Mapping[str, str]], bool] = field(default=lambda *_: False)

    def of(self, definition: SeriesDefinition) -> int:
        if self.critical and self.is_critical(definition.metric, dict(definition.tags)):
            return self.bulk + partition_of(definition.series_id, self.critical)
        return partition_of(definition.series_id, self.bulk)


# The key of field 5, also in more bytes than it needs.
_MAY_BE_METADATA = re.compile(rb"[\x2a\xaa]")
_MOST_LABEL_BYTES = 256 * 1024

LabelPairs = Sequence[tuple[bytes, bytes]]


def label_pairs(version: Version, series: bytes, symbols: Sequence[bytes]) -> LabelPairs:
    """The labels of a TimeSeries message, in their order. Raises Malformed, InvalidSeries."""
    if version is Version.V2:
        refs = [ref for f in fields(series) if f.number == 1 for ref in varints(f)]
        return pairs_of(refs, symbols)
    return [_pair(f.delimited()) for f in fields(series) if f.number == 1]


def pairs_of(refs: Sequence[int], symbols: Sequence[bytes]) -> LabelPairs:
    """Names and values that references point to. Raises InvalidSeries."""
    if len(refs) % 2:
        raise InvalidSeries(
            Refusal.INVALID_LABELS, f"{len(refs)} label references: one has no pair"
        )
    for ref in refs:
        if ref >= len(symbols):
            raise InvalidSeries(
                Refusal.INVALID_LABELS, f"label reference {ref} is past the {len(symbols)} symbols"
            )
    # A reference takes a byte, and what it refers to may be long.
    size = sum(len(symbols[ref]) for ref in refs)
    if size > _MOST_LABEL_BYTES:
        text = f"a series' labels have {size:,} bytes, over {_MOST_LABEL_BYTES:,}"
        raise InvalidSeries(Refusal.LABEL_LIMIT, text)
    return [(symbols[refs[n]], symbols[refs[n + 1]]) for n in range(0, len(refs), 2)]


def decode_labels(pairs: LabelPairs) -> dict[str, str]:
    """Labels by name, `__name__` among them, without those that are empty. Raises InvalidSeries for
    a name that is empty or comes twice, and for text that is no UTF-8.
    """
    try:
        found = {name.decode(): value.decode() for name, value in pairs}
    except UnicodeDecodeError as err:
        text = f"the label {err.object[:60]!r} is not UTF-8"
        raise InvalidSeries(Refusal.INVALID_LABELS, text) from err
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidSeries(Refusal.INVALID_LABELS, f"the label {twice.decode()!r} comes twice")
    if found.pop("", None):
        raise InvalidSeries(Refusal.INVALID_LABELS, f"a label of {_shown(found)} has no name")
    return {name: value for name, value in found.items() if value}


def define_series(
    labels: Mapping[str, str], source: Input, metadata: KnownMetadata
) -> SeriesDefinition:
    """Raises InvalidSeries for a series without a metric name."""
    tags = dict(source.external_labels) | dict(labels)
    metric = tags.pop("__name__", "")
    if not metric:
        text = f"the series {_shown(labels)} has no metric name"
        raise InvalidSeries(Refusal.INVALID_LABELS, text)
    series_id, check = identify(metric, tags)
    kept = tuple(sorted((name, value) for name, value in tags.items() if value))
    return metadata.described(series_id, check, metric, kept)


def require_within(limits: Limits, definition: SeriesDefinition) -> None:
    """Raises InvalidSeries for labels beyond the limits."""
    if exceeded := limits.of(definition.metric).exceeded_by(definition):
        raise InvalidSeries(Refusal.LABEL_LIMIT, f"{definition.metric}: {exceeded}")


def family_metadata(message: bytes) -> tuple[str, Metadata] | None:
    """The family's name and metadata of a MetricMetadata message of version 1.0; None if it names
    no family. Raises Malformed.
    """
    kind, texts = 0, {2: b"", 4: b"", 5: b""}
    for found in fields(message):
        if found.number == 1:
            kind = found.varint()
        elif found.number in texts:
            texts[found.number] = found.delimited()
    name = texts[2].decode(errors="replace")
    if not name:
        return None
    return name, _metadata(kind, texts[5], texts[4])


def series_metadata(series: bytes, symbols: Sequence[bytes]) -> Metadata | None:
    """The metadata in a TimeSeries message of version 2.0; None if there is nothing in it. Raises
    Malformed, InvalidSeries.
    """
    if not (symbols and symbols[0]) and not _MAY_BE_METADATA.search(series):
        return None
    numbers = {1: 0, 3: 0, 4: 0}
    for outer in fields(series):
        if outer.number == 5:
            for found in fields(outer.delimited()):
                if found.number in numbers:
                    numbers[found.number] = found.varint()
    for ref in (numbers[3], numbers[4]):
        if ref and ref >= len(symbols):
            text = f"metadata reference {ref} is past the {len(symbols)} symbols"
            raise InvalidSeries(Refusal.INVALID_LABELS, text)
    # A reference that is not said is one to the first symbol, which should be empty.
    help_text, unit = (symbols[numbers[k]] if symbols else b"" for k in (3, 4))
    if not (numbers[1] or help_text or unit):
        return None
    return _metadata(numbers[1], unit, help_text)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An exemplar of a series."""

    labels: Mapping[str, str]
    value: float
    ts_ms: int


_MOST_EXEMPLAR_CHARACTERS = 128
"""Of all names and values together. Source: OpenMetrics 1.0, Exemplars."""


def decode_exemplar(version: Version, message: bytes, symbols: Sequence[bytes]) -> Exemplar:
    """Raises Malformed, InvalidSeries."""
    value, ts_ms = 0.0, 0
    refs: list[int] = []
    pairs: list[tuple[bytes, bytes]] = []
    for found in fields(message):
        if found.number == 1 and version is Version.V2:
            refs += varints(found)
        elif found.number == 1:
            pairs.append(_pair(found.delimited()))
        elif found.number == 2:
            value = found.double()
        elif found.number == 3:
            ts_ms = signed(found.varint())
    labels = decode_labels(pairs_of(refs, symbols) if version is Version.V2 else pairs)
    if sum(len(name) + len(text) for name, text in labels.items()) > _MOST_EXEMPLAR_CHARACTERS:
        text = f"an exemplar's labels are over {_MOST_EXEMPLAR_CHARACTERS} characters"
        raise InvalidSeries(Refusal.INVALID_EXEMPLAR, text)
    return Exemplar(labels, value, ts_ms)


def _pair(label: bytes) -> tuple[bytes, bytes]:
    name = value = b""
    for found in fields(label):
        if found.number == 1:
            name = found.delimited()
        elif found.number == 2:
            value = found.delimited()
    return name, value


def _metadata(kind: int, unit: bytes, help_text: bytes) -> Metadata:
    name = TYPE_NAMES[kind] if kind < len(TYPE_NAMES) else "unknown"
    texts = (text.decode(errors="replace")[:_MOST_TEXT] for text in (unit, help_text))
    return Metadata(name, *texts)


def _shown(labels: Mapping[str, str]) -> str:
    """Labels for a person, shortened."""
    text = ", ".join(f"{name}={value!r}" for name, value in labels.items())
    return "{" + (text if len(text) <= 200 else text[:200] + "...") + "}"
