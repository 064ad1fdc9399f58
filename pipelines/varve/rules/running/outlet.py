"""Where samples and events of rules go: Kafka, until it has acknowledged them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from varve.client.messages import Message
from varve.client.messages import Sample as WireSample
from varve.client.producer import Producer
from varve.client.sender import Sender
from varve.model.identity import SeriesDefinition, define
from varve.model.staleness import is_stale
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.rules.instant import Sample
from varve.rules.label_sets import METRIC_NAME, Labels
from varve.rules.running.changes import Change
from varve.telemetry.metrics import RulesMetrics

log = logging.getLogger(__name__)

_TRY_S: Final = 10.0
_PAUSE_S: Final = 1.0
_CONNECT_S: Final = 30.0
_BUFFER_BYTES: Final = 64 << 20
_KNOWN_SERIES: Final = 500_000
"""Definitions that are remembered; then they are computed anew."""


class KafkaOutlet:
    """Sends until all is acknowledged or `stopping` is set. For one thread."""

    def __init__(
        self,
        servers: str,
        *,
        samples_topic: str,
        events_topic: str,
        options: Mapping[str, str],
        metrics: RulesMetrics,
        stopping: threading.Event,
    ) -> None:
        """Blocks until the topics are known, for 30 s each. Raises as Producer does."""
        self._stopping, self._metrics = stopping, metrics
        self.samples = 0
        """Samples that Kafka has acknowledged."""
        self._definitions: dict[Labels, SeriesDefinition] = {}
        self._samples = Producer(
            servers,
            samples_topic,
            options=options,
            client_id="varve-rules",
            block_s=_TRY_S,
            buffer_bytes=_BUFFER_BYTES,
            delivery_s=_TRY_S,
            connect_s=_CONNECT_S,
            stale_markers=False,
        )
        self._events = Sender(
            servers,
            events_topic,
            "",
            options=options,
            client_id="varve-rules",
            buffer_bytes=_BUFFER_BYTES,
            delivery_s=_TRY_S,
            connect_s=_CONNECT_S,
        )

    def send(self, samples: Sequence[Sample], events: Sequence[Change]) -> bool:
        """Blocks until Kafka has all of it; False if it was stopped before.

        Copies are sent where the outcome of an attempt is unknown: they merge.
        """
        wire = list(self._on_the_wire(samples))
        while not self._sent_samples(wire):
            log.warning("Kafka does not take samples: %s", self._samples.counts().last_error)
            self._metrics.output_failures.inc()
            if self._stopping.wait(_PAUSE_S):
                return False
        self._metrics.samples.inc(len(wire))
        self.samples += len(wire)
        while not self._sent_events(events):
            log.warning("Kafka does not take events: %s", self._events.counts().last_error)
            self._metrics.output_failures.inc()
            if self._stopping.wait(_PAUSE_S):
                return False
        return True

    def close(self) -> None:
        self._samples.close(1.0)
        self._events.close(1.0)

    def _sent_samples(self, wire: Sequence[WireSample]) -> bool:
        if not wire:
            return True
        lost = self._samples.counts().lost
        self._samples.put(wire, wait_s=_TRY_S)
        return self._samples.flush(2 * _TRY_S) and self._samples.counts().lost == lost

    def _sent_events(self, events: Sequence[Change]) -> bool:
        if not events:
            return True
        lost = self._events.counts().lost
        deadline = time.monotonic() + _TRY_S
        self._events.take(len(events))
        for change in events:
            row = change.event()
            body = json.dumps(row, separators=(",", ":")).encode()
            message = Message(None, row["fingerprint"].encode(), body, 1)
            self._events.send(message, _EVENTS, deadline)
        return self._events.flush(2 * _TRY_S) and self._events.counts().lost == lost

    def _on_the_wire(self, samples: Iterable[Sample]) -> Iterator[WireSample]:
        unstored = 0
        for sample in samples:
            if isinstance(sample.value, FloatHistogram):
                unstored += 1
                continue
            stale = _is_stale(sample.value)
            yield WireSample(
                self._definition(sample.labels), sample.ts_ms, None if stale else sample.value
            )
        if unstored:
            self._metrics.histograms.inc(unstored)
            log.warning("%d histograms that rules recorded cannot be stored", unstored)

    def _definition(self, labels: Labels) -> SeriesDefinition:
        known = self._definitions.get(labels)
        if known is None:
            if len(self._definitions) >= _KNOWN_SERIES:
                self._definitions = {}
            tags = dict(labels)
            metric = tags.pop(METRIC_NAME)
            known = self._definitions[labels] = define(metric, tags, metric_type="gauge")
        return known


def _is_stale(value: float) -> bool:
    if value == value:  # noqa: PLR0124 - only a NaN may be the marker
        return False
    return bool(is_stale(np.array([value]))[0])


class _EventEncoder:
    """Events are encoded before they are sent."""

    def messages(self, samples: Iterable[WireSample]) -> Iterator[Message]:  # noqa: ARG002
        return iter(())

    def delivered(self, message: Message) -> None:
        """Does nothing: no event depends on another."""


_EVENTS: Final = _EventEncoder()
