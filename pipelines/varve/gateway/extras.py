"""Histograms, exemplars and metadata of a request, which are decoded one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.first_sight import (
    InvalidSeries,
    KnownMetadata,
    decode_exemplar,
    family_metadata,
)
from varve.gateway.histograms import InvalidHistogram, decode_histogram
from varve.gateway.refusals import Refusal
from varve.model.identity import SeriesDefinition

_MOST_NAME = 1_024
"""Characters of a metric's name of which metadata is kept."""


class ExtrasDecoder:
    """Puts what it decodes into `found`; what is invalid among its refusals. All methods raise
    Malformed.
    """

    def __init__(
        self,
        found: Decoded,
        bounds: Bounds,
        symbols: Callable[[], Sequence[bytes]],
        metadata: KnownMetadata,
    ) -> None:
        """symbols: those of the request. metadata: gets what is said of metrics."""
        self._found = found
        self._bounds = bounds
        self._symbols = symbols
        self._metadata = metadata

    def take_metadata(self, message: bytes) -> None:
        """A MetricMetadata of version 1.0."""
        named = family_metadata(message)
        if named is not None and len(named[0]) <= _MOST_NAME:
            self._found.metadata[named[0]] = named[1]
            self._metadata.put(*named)

    def take_histogram(self, definition: SeriesDefinition, message: bytes) -> None:
        refusals = self._found.refusals
        try:
            sample = decode_histogram(message)
        except InvalidHistogram as bad:
            text = f"{definition.metric}: a histogram is invalid: {bad}"
            refusals.add(Refusal.INVALID_HISTOGRAM, text, others=1)
            return
        if self._is_in_time(definition, sample.ts_ms, "a histogram"):
            self._found.histograms.append((definition, sample))

    def take_exemplar(self, definition: SeriesDefinition, message: bytes) -> None:
        try:
            exemplar = decode_exemplar(self._found.version, message, self._symbols())
        except InvalidSeries as bad:
            text = f"{definition.metric}: an exemplar is invalid: {bad}"
            self._found.refusals.add(Refusal.INVALID_EXEMPLAR, text, others=1)
            return
        if self._is_in_time(definition, exemplar.ts_ms, "an exemplar"):
            self._found.exemplars.append((definition, exemplar))

    def _is_in_time(self, definition: SeriesDefinition, ts_ms: int, what: str) -> bool:
        """Whether a record may be taken by its time; if not, it is among the refusals."""
        bounds, refusals = self._bounds, self._found.refusals
        if ts_ms > bounds.newest_ms:
            text = f"{definition.metric}: {what} is too far in the future"
            refusals.add(Refusal.TOO_FAR_IN_FUTURE, text, others=1)
        elif ts_ms < bounds.oldest_ms:
            refusals.add(Refusal.TOO_OLD, f"{definition.metric}: {what} is too old", others=1)
        else:
            return True
        return False
