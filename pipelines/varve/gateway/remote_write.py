"""Decodes remote write 1.0 and 2.0: no socket, clock or Kafka.

Series that are known become rows by a kernel. The others are looked at here, one by one, and walked
over again once they are known; so are those whose fields come in an unusual order, put in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from varve.gateway import kernel_walk as walk
from varve.gateway.first_sight import (
    Exemplar,
    Input,
    InvalidSeries,
    KnownMetadata,
    Metadata,
    Targets,
    decode_exemplar,
    decode_labels,
    define_series,
    family_metadata,
    label_pairs,
    series_metadata,
)
from varve.gateway.histograms import HistogramSample, InvalidHistogram, decode_histogram
from varve.gateway.messages import SampleColumns
from varve.gateway.negotiation import Version
from varve.gateway.protobuf import delimited_field, fields, varints, write_varint
from varve.gateway.refusals import Malformed, Refusal, Refusals, Refused
from varve.gateway.replicas import Replicas
from varve.gateway.series_table import SeriesKey, SeriesTable
from varve.ingest.limits import Limits
from varve.model.identity import SeriesDefinition

_MOST_SAMPLES = 2_000_000
_MOST_LISTED = 200_000
_MOST_EXTRAS = 500_000
_MOST_SYMBOLS = 1_000_000

_SHED_TEXTS = {
    Refusal.QUOTA: "this sender's samples a second are used up",
    Refusal.OVERLOAD: "neither Kafka nor the spool can take more now",
}

_NO_HASHES = np.empty((0, 2), np.uint64)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which samples are taken, by their time in ms. lookback_ms: how long before a series' first
    sample its start may be to become a sample.
    """

    oldest_ms: int
    newest_ms: int
    lookback_ms: int = 300_000


@dataclass
class Decoded:
    """What a request holds. Its samples are rows of the columns it was decoded into."""

    version: Version
    samples: int = 0
    """Taken, without zeros at starts."""
    derived: int = 0
    """Zeros at starts, which are rows too."""
    critical: int = 0
    """Rows that go to the critical topic."""
    definitions: list[tuple[int, SeriesDefinition]] = field(default_factory=list)
    """Definitions to be sent, each with its target."""
    defined: list[SeriesKey] = field(default_factory=list)
    """The series that are known from now on, to be undefined if the request is not sent."""
    histograms: list[tuple[SeriesDefinition, HistogramSample]] = field(default_factory=list)
    exemplars: list[tuple[SeriesDefinition, Exemplar]] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    of_replica: int = 0
    """Samples that another replica sends as well."""

    def received(self) -> int:
        """Samples the request had."""
        return self.samples + self.of_replica + sum(self.refusals.samples.values())


class RemoteWriteDecoder:
    """Decodes requests. State: the series and the metadata it knows. For one thread."""

    def __init__(
        self,
        table: SeriesTable,
        targets: Targets,
        replicas: Replicas,
        limits: Callable[[], Limits] = Limits,
    ) -> None:
        """limits: those on labels that are in force."""
        self.table = table
        self.targets = targets
        self.replicas = replicas
        self._limits = limits
        self._metadata = KnownMetadata()
        self._scratch = _Scratch(0)

    def decode(
        self,
        body: np.ndarray,
        version: Version,
        source: Input,
        bounds: Bounds,
        columns: SampleColumns,
        may_define: Callable[[], bool] = lambda: True,
        shed: Refusal | None = None,
    ) -> Decoded:
        """Appends the samples of an expanded body to the columns, which must have room for
        `rows_needed(body)` more.

        may_define: asked before each new series, which is refused if it may not be. shed: why
        samples of the bulk topic are refused. Raises Malformed, and Refused for a request that is
        over a bound; then nothing is appended.
        """
        reading = _Reading(self, body, version, source, bounds, columns, shed)
        return reading.run(may_define)

    def scratch(self, size: int) -> _Scratch:
        """Arrays for a body of `size` bytes."""
        if size > self._scratch.size:
            self._scratch = _Scratch(size)
        return self._scratch

    def limits(self) -> Limits:
        return self._limits()

    @property
    def metadata(self) -> KnownMetadata:
        return self._metadata


def rows_needed(size: int) -> int:
    """Rows that the samples of a body of `size` bytes may take: each has two bytes at least. Those
    of a request beyond a bound are refused.
    """
    return min(size // 2, _MOST_SAMPLES) + 2


class _Scratch:
    """Arrays that walks write into; pages of them that are never touched take no memory."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1 << 20)
        self.listed = np.empty((min(self.size // 2, _MOST_LISTED), walk.LISTED_COLUMNS), np.int64)
        self.extras = np.empty((min(self.size // 2, _MOST_EXTRAS), walk.EXTRAS_COLUMNS), np.int64)
        self.symbols = np.empty((min(self.size // 2, _MOST_SYMBOLS), 2), np.int64)
        self.symbol_hashes = np.empty((len(self.symbols), 2), np.uint64)
        self.totals = np.empty(walk.TOTALS, np.int64)


class _Reading:
    """The decoding of one request."""

    def __init__(
        self,
        decoder: RemoteWriteDecoder,
        body: np.ndarray,
        version: Version,
        source: Input,
        bounds: Bounds,
        columns: SampleColumns,
        shed: Refusal | None,
    ) -> None:
        self.decoder = decoder
        self.shed = shed
        self.least_target = 0 if shed is None else decoder.targets.bulk
        self.body = body
        self.version = version
        self.source = source
        self.bounds = bounds
        self.columns = columns
        self.scratch = decoder.scratch(len(body))
        self.found = Decoded(version)
        self.rows = columns.rows
        self.hashes = _NO_HASHES
        self.places = np.empty((0, 2), np.int64)
        self._symbols: list[bytes] | None = None
        seeds = np.zeros(4, np.uint64)
        seeds[:2] = decoder.table.seeds
        seeds[2:] = source.seeds()
        self.seeds = seeds

    def run(self, may_define: Callable[[], bool]) -> Decoded:
        if self.version is Version.V2:
            scratch = self.scratch
            status, count = walk.find_symbols(
                self.body, self.seeds, scratch.symbols, scratch.symbol_hashes
            )
            _require(status)
            self.places = scratch.symbols[:count]
            self.hashes = scratch.symbol_hashes[:count]
        try:
            body = self.body
            while len(listed := self._walk(body)):
                # Defined ones are known next time; those put in order may have to be defined then.
                again = b"".join(self._look_at(body, listed, may_define))
                body = np.frombuffer(again, np.uint8)
        except BaseException:
            self.decoder.table.undefine(self.found.defined)
            raise
        self.found.samples = self.rows - self.columns.rows - self.found.derived
        self.columns.rows = self.rows
        return self.found

    def _walk(self, body: np.ndarray) -> np.ndarray:
        """Walks over a request's bytes; returns the series that are not known."""
        decoder, scratch, columns = self.decoder, self.scratch, self.columns
        replicas = decoder.replicas
        status = walk.walk(
            body, int(self.version), self.seeds, self.hashes, len(self.hashes),
            decoder.table.slots, decoder.table.stale_before_s(),
            self.bounds.oldest_ms, self.bounds.newest_ms, self.bounds.lookback_ms,
            decoder.targets.bulk, self.least_target, replicas.accepted, replicas.seen,
            columns.ids, columns.checks, columns.ts, columns.values, columns.starts,
            columns.targets, self.rows, scratch.listed, scratch.extras, scratch.totals,
        )  # fmt: skip
        _require(status)
        totals = scratch.totals.tolist()
        self.rows += totals[walk.ROWS]
        self.found.derived += totals[walk.DERIVED]
        self.found.critical += totals[walk.OF_CRITICAL]
        self.found.of_replica += totals[walk.OF_REPLICA]
        if self.shed is not None and totals[walk.SHED]:
            count = totals[walk.SHED]
            self.found.refusals.add(self.shed, f"{count} samples: {_SHED_TEXTS[self.shed]}", count)
        if totals[walk.IN_FUTURE] or totals[walk.TOO_OLD]:
            self._refuse_times(body, totals)
        listed = scratch.listed[: totals[walk.LISTED]].copy()
        if totals[walk.EXTRAS]:
            self._decode_extras(body, scratch.extras[: totals[walk.EXTRAS]].tolist())
        return listed

    def _look_at(
        self, body: np.ndarray, listed: np.ndarray, may_define: Callable[[], bool]
    ) -> Iterable[bytes]:
        """Yields the series that can be walked over again, as fields of a request."""
        number = 1 if self.version is Version.V1 else 5
        raw = body.tobytes()
        for row in listed.tolist():
            series = raw[row[walk.SERIES_BEGIN] : row[walk.SERIES_END]]
            others = row[walk.HISTOGRAMS] + row[walk.EXEMPLARS]
            try:
                if not row[walk.IN_USUAL_ORDER]:
                    yield delimited_field(number, self._in_order(series))
                    continue
                if self.version is Version.V2:
                    self._require_samples(series, row[walk.SAMPLES] + row[walk.HISTOGRAMS])
                self._define(series, (row[walk.HASH0], row[walk.HASH1]), may_define)
            except InvalidSeries as bad:
                self.found.refusals.add(bad.why, str(bad), row[walk.SAMPLES], others)
                continue
            yield delimited_field(number, series)

    def _define(
        self, series: bytes, key: SeriesKey, may_define: Callable[[], bool]
    ) -> SeriesDefinition:
        """Makes a series known. Raises InvalidSeries."""
        decoder = self.decoder
        labels = decode_labels(label_pairs(self.version, series, self.symbols()))
        labels, replica = decoder.replicas.told_apart(labels)
        if self.version is Version.V2:
            said = series_metadata(series, self.symbols())
            if said is not None and (name := labels.get("__name__")):
                self.found.metadata[name] = said
                decoder.metadata.put(name, said)
        definition = define_series(labels, self.source, decoder.limits(), decoder.metadata)
        target = decoder.targets.of(definition)
        if self.shed is not None and target < self.least_target:
            raise InvalidSeries(self.shed, f"{definition.metric}: {_SHED_TEXTS[self.shed]}")
        if not may_define():
            text = f"{definition.metric}: this sender's new series a second are used up"
            raise InvalidSeries(Refusal.NEW_SERIES_QUOTA, text)
        decoder.table.put(key, definition.series_id, definition.check, target, replica)
        self.found.definitions.append((target, definition))
        self.found.defined.append(key)
        return definition

    def _require_samples(self, series: bytes, count: int) -> None:
        """Raises InvalidSeries for a series without any, which version 2.0 forbids."""
        if not count:
            text = f"{self._name_of(series)} has neither samples nor histograms"
            raise InvalidSeries(Refusal.NO_SAMPLES, text)

    def _in_order(self, series: bytes) -> bytes:
        """A TimeSeries message with its labels first and in one piece. Raises Malformed."""
        found = list(fields(series))
        labels = [f for f in found if f.number == 1]
        if self.version is Version.V1:
            head = b"".join(delimited_field(1, f.delimited()) for f in labels)
        else:
            refs = [ref for f in labels for ref in varints(f)]
            head = delimited_field(1, b"".join(map(write_varint, refs)))
        return head + b"".join(f.raw for f in found if f.number != 1)

    def _decode_extras(self, body: np.ndarray, extras: Sequence[Sequence[int]]) -> None:
        raw = body.tobytes()
        found = self.found
        definitions: dict[int, SeriesDefinition] = {}
        for extra in extras:
            kind = extra[walk.KIND]
            if kind == walk.START:
                continue
            message = raw[extra[walk.BEGIN] : extra[walk.END]]
            if kind == walk.METADATA:
                named = family_metadata(message)
                if named is not None:
                    found.metadata[named[0]] = named[1]
                    self.decoder.metadata.put(*named)
                continue
            begin = extra[walk.OF_SERIES_BEGIN]
            if begin not in definitions:
                definitions[begin] = self._definition(raw[begin : extra[walk.OF_SERIES_END]])
            definition = definitions[begin]
            if kind == walk.HISTOGRAM:
                self._take_histogram(definition, message)
            else:
                self._take_exemplar(definition, message)

    def _take_histogram(self, definition: SeriesDefinition, message: bytes) -> None:
        refusals = self.found.refusals
        try:
            sample = decode_histogram(message)
        except InvalidHistogram as bad:
            text = f"{definition.metric}: a histogram is invalid: {bad}"
            refusals.add(Refusal.INVALID_HISTOGRAM, text, others=1)
            return
        if sample.ts_ms > self.bounds.newest_ms:
            text = f"{definition.metric}: a histogram is too far in the future"
            refusals.add(Refusal.TOO_FAR_IN_FUTURE, text, others=1)
        elif sample.ts_ms < self.bounds.oldest_ms:
            refusals.add(Refusal.TOO_OLD, f"{definition.metric}: a histogram is too old", others=1)
        else:
            self.found.histograms.append((definition, sample))

    def _take_exemplar(self, definition: SeriesDefinition, message: bytes) -> None:
        try:
            exemplar = decode_exemplar(self.version, message, self.symbols())
        except InvalidSeries as bad:
            text = f"{definition.metric}: an exemplar is invalid: {bad}"
            self.found.refusals.add(Refusal.INVALID_EXEMPLAR, text, others=1)
        else:
            self.found.exemplars.append((definition, exemplar))

    def _definition(self, series: bytes) -> SeriesDefinition:
        """The definition of a series that is known."""
        labels = decode_labels(label_pairs(self.version, series, self.symbols()))
        labels, _ = self.decoder.replicas.told_apart(labels)
        return define_series(labels, self.source, Limits(), self.decoder.metadata)

    def _refuse_times(self, body: np.ndarray, totals: Sequence[int]) -> None:
        for why, count, first, end, words in (
            (
                Refusal.TOO_FAR_IN_FUTURE,
                totals[walk.IN_FUTURE],
                totals[walk.FIRST_IN_FUTURE],
                totals[walk.FIRST_IN_FUTURE_END],
                f"too far in the future: over {self.bounds.newest_ms}",
            ),
            (
                Refusal.TOO_OLD,
                totals[walk.TOO_OLD],
                totals[walk.FIRST_TOO_OLD],
                totals[walk.FIRST_TOO_OLD_END],
                f"too old: before {self.bounds.oldest_ms}",
            ),
        ):
            if count:
                name = self._name_of(body[first:end].tobytes())
                self.found.refusals.add(why, f"{count} samples are {words}, first of {name}", count)

    def _name_of(self, series: bytes) -> str:
        """A series' name for a person."""
        labels = decode_labels(label_pairs(self.version, series, self.symbols()))
        return labels.get("__name__", "a series without a name")[:100]

    def symbols(self) -> Sequence[bytes]:
        """The symbols of the request; none in version 1.0."""
        if self._symbols is None:
            raw = self.body.tobytes() if len(self.places) else b""
            self._symbols = [raw[begin:end] for begin, end in self.places.tolist()]
        return self._symbols


def _require(status: int) -> None:
    """Raises what a walk found wrong."""
    if status == walk.BAD_PROTOBUF:
        raise Malformed("the body is not the protobuf message that its content-type names")
    if status == walk.MORE_SAMPLES:
        raise Refused(413, f"over {_MOST_SAMPLES:,} samples: send fewer in a request")
    if status == walk.MORE_LISTED:
        raise Refused(
            413, f"over {_MOST_LISTED:,} new series or {_MOST_SYMBOLS:,} symbols: send fewer"
        )
    if status == walk.MORE_EXTRAS:
        raise Refused(413, f"over {_MOST_EXTRAS:,} histograms, exemplars and metadata: send fewer")
