"""Decodes remote write 1.0 and 2.0: no socket, clock or Kafka.

Series that are known become rows by a kernel. The others are looked at here, one by one, and walked
over again once they are known; so are those whose fields come in an unusual order, put in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from varve.gateway import kernel_walk as walk
from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.extras import ExtrasDecoder
from varve.gateway.first_sight import (
    Input,
    InvalidSeries,
    KnownMetadata,
    Targets,
    decode_labels,
    define_series,
    label_pairs,
    require_within,
    series_metadata,
)
from varve.gateway.messages import SampleColumns
from varve.gateway.negotiation import Version
from varve.gateway.plain_labels import CHUNK, Identity, PlainLabels
from varve.gateway.protobuf import delimited_field, fields, varints, write_varint
from varve.gateway.refusals import Malformed, Refusal, Refused
from varve.gateway.replicas import NO_REPLICA, Replicas
from varve.gateway.series_table import KnownSeries, SeriesTable
from varve.ingest.limits import Limits
from varve.model.identity import SeriesDefinition

MOST_SAMPLES = 2_000_000
"""Of a request."""
_MOST_LISTED = 200_000
_MOST_EXTRAS = 500_000
_MOST_SYMBOLS = 1_000_000

# Series in an unusual order are put in the usual one, then defined, then walked over; and the table
# may have to forget some of them meanwhile, once.
_ROUNDS = 5

_SHED_TEXTS = {
    Refusal.QUOTA: "this sender's samples a second are used up",
    Refusal.OVERLOAD: "neither Kafka nor the spool can take more now",
}

_NO_HASHES = np.empty((0, 2), np.uint64)


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
        self.plain_labels = PlainLabels()

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

    def retarget(self, targets: Targets) -> None:
        """Forgets all series: their targets are others now."""
        self.targets = targets
        self.table.clear()

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
    return min(size // 2, MOST_SAMPLES) + 2


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
        self._known: list[KnownSeries] = []
        self._limits = decoder.limits()
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
            self._read(may_define)
        except BaseException:
            self.decoder.table.undefine(self.found.defined)
            raise
        self.found.samples = self.rows - self.columns.rows - self.found.derived
        self.columns.rows = self.rows
        return self.found

    def _read(self, may_define: Callable[[], bool]) -> None:
        """Walks over the body, and again over the series that were not known. Raises as decode."""
        body = self.body
        for _ in range(_ROUNDS):
            listed = self._walk(body)
            if not len(listed):
                return
            again = b"".join(self._look_at(body, listed, may_define))
            body = np.frombuffer(again, np.uint8)
        raise Refused(413, "more new series than gateway.max_series has room for: send fewer")

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
        count, others = totals[walk.SHED], totals[walk.SHED_OTHERS]
        if self.shed is not None and count + others:
            text = f"{count + others} samples: {_SHED_TEXTS[self.shed]}"
            self.found.refusals.add(self.shed, text, count, others)
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
        for first in range(0, len(listed), CHUNK):
            chunk = np.ascontiguousarray(listed[first : first + CHUNK])
            for row, identity in zip(
                chunk.tolist(), self._identities(body, raw, chunk), strict=True
            ):
                series = raw[row[walk.SERIES_BEGIN] : row[walk.SERIES_END]]
                try:
                    if not row[walk.IN_USUAL_ORDER]:
                        yield delimited_field(number, self._in_order(series))
                        continue
                    if self.version is Version.V2:
                        self._require_samples(series, row[walk.SAMPLES] + row[walk.HISTOGRAMS])
                    self._define(series, row, identity, may_define)
                except InvalidSeries as bad:
                    others = row[walk.HISTOGRAMS] + row[walk.EXEMPLARS]
                    self.found.refusals.add(bad.why, str(bad), row[walk.SAMPLES], others)
                    continue
                yield delimited_field(number, series)
            self.decoder.table.put(self._known)
            self._known = []

    def _identities(
        self, body: np.ndarray, raw: bytes, chunk: np.ndarray
    ) -> Iterable[Identity | None]:
        """What each series is, as far as that can be told at a glance."""
        if self.source.external_labels:
            return itertools.repeat(None, len(chunk))
        return self.decoder.plain_labels.identities(body, raw, self.version, self.places, chunk)

    def _define(
        self,
        series: bytes,
        row: Sequence[int],
        identity: Identity | None,
        may_define: Callable[[], bool],
    ) -> None:
        """Makes a series known. Raises InvalidSeries."""
        decoder, replica = self.decoder, NO_REPLICA
        if identity is None:
            labels = decode_labels(label_pairs(self.version, series, self.symbols()))
            labels, replica = decoder.replicas.told_apart(labels)
            if name := labels.get("__name__"):
                self._note_metadata(series, name)
            definition = define_series(labels, self.source, decoder.metadata)
            require_within(self._limits, definition)
        else:
            series_id, check, metric, tags, length = identity
            self._note_metadata(series, metric)
            definition = decoder.metadata.described(series_id, check, metric, tags)
            limits = self._limits.of(metric)
            if length > min(limits.name_bytes, limits.value_bytes) or len(tags) > limits.labels:
                require_within(self._limits, definition)
        target = decoder.targets.of(definition)
        if self.shed is not None and target < self.least_target:
            raise InvalidSeries(self.shed, f"{definition.metric}: {_SHED_TEXTS[self.shed]}")
        if not may_define():
            text = f"{definition.metric}: this sender's new series a second are used up"
            raise InvalidSeries(Refusal.NEW_SERIES_QUOTA, text)
        key = row[walk.HASH0], row[walk.HASH1]
        self._known.append(
            KnownSeries(*key, definition.series_id, definition.check, target, replica)
        )
        self.found.definitions.append((target, definition))
        self.found.defined.append(key)

    def _note_metadata(self, series: bytes, metric: str) -> None:
        """Keeps the metadata that version 2.0 says with a series."""
        if self.version is Version.V2:
            said = series_metadata(series, self.symbols())
            if said is not None:
                self.found.metadata[metric] = said
                self.decoder.metadata.put(metric, said)

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
        decoder = ExtrasDecoder(self.found, self.bounds, self.symbols, self.decoder.metadata)
        definitions: dict[int, SeriesDefinition] = {}
        for extra in extras:
            kind = extra[walk.KIND]
            if kind == walk.START:
                continue
            message = raw[extra[walk.BEGIN] : extra[walk.END]]
            if kind == walk.METADATA:
                decoder.take_metadata(message)
                continue
            begin = extra[walk.OF_SERIES_BEGIN]
            if begin not in definitions:
                definitions[begin] = self._definition(raw[begin : extra[walk.OF_SERIES_END]])
            if kind == walk.HISTOGRAM:
                decoder.take_histogram(definitions[begin], message)
            else:
                decoder.take_exemplar(definitions[begin], message)

    def _definition(self, series: bytes) -> SeriesDefinition:
        """The definition of a series that is known."""
        labels = decode_labels(label_pairs(self.version, series, self.symbols()))
        labels, _ = self.decoder.replicas.told_apart(labels)
        return define_series(labels, self.source, self.decoder.metadata)

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
        raise Refused(413, f"over {MOST_SAMPLES:,} samples or series: send fewer in a request")
    if status == walk.MORE_LISTED:
        raise Refused(
            413, f"over {_MOST_LISTED:,} new series or {_MOST_SYMBOLS:,} symbols: send fewer"
        )
    if status == walk.MORE_EXTRAS:
        raise Refused(413, f"over {_MOST_EXTRAS:,} histograms, exemplars and metadata: send fewer")
