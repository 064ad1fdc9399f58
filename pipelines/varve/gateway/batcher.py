"""Requests of a few milliseconds share messages, and wait for the same acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.first_sight import Input, KnownMetadata, Targets
from varve.gateway.messages import SampleColumns, TargetMessage, encode, encode_metadata
from varve.gateway.negotiation import Version
from varve.gateway.record_batcher import RecordBatcher
from varve.gateway.refusals import Refusal
from varve.gateway.remote_write import RemoteWriteDecoder, rows_needed
from varve.gateway.series_table import SeriesKey
from varve.model.identity import SeriesDefinition
from varve.model.metadata import Metadata

_CAPACITY = 1 << 20

Encode = Callable[
    [SampleColumns, Mapping[int, Sequence[SeriesDefinition]]], Iterable[TargetMessage]
]


class Delivers(Protocol):
    """What a batcher needs of a Lane."""

    def deliver(self, messages: Sequence[TargetMessage]) -> asyncio.Future[None]: ...


@dataclass
class _Batch:
    """What the next messages hold."""

    sent: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """By the lane's name, an answer for whoever has put something into its messages."""
    definitions: dict[int, list[SeriesDefinition]] = field(default_factory=dict)
    defined: list[SeriesKey] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)
    """What is said of metrics apart from their series, and was not sent before."""
    timer: asyncio.TimerHandle | None = None


class Batcher:
    """Gathers samples into messages and hands them to lanes. For one event loop's thread."""

    def __init__(
        self,
        decoder: RemoteWriteDecoder,
        bulk: Delivers,
        critical: Delivers | None,
        *,
        samples: int = 16_000,
        wait_s: float = 0.003,
        encode: Encode = encode,
        records: RecordBatcher | None = None,
    ) -> None:
        """samples: a batch ends when it has so many. wait_s: or so long after its first request.
        critical: the lane of targets beyond those of the bulk topic. records: takes histograms and
        exemplars; without it they are left to the caller.
        """
        self._decoder = decoder
        self._lanes = {"bulk": bulk} | ({"critical": critical} if critical is not None else {})
        self._most = samples
        self._wait_s = wait_s
        self._encode = encode
        self._records = records
        self._columns = SampleColumns.empty(_CAPACITY)
        self._batch = _Batch()
        self._told = KnownMetadata()
        self._loop = asyncio.get_running_loop()

    def add(
        self,
        body: np.ndarray,
        version: Version,
        source: Input,
        bounds: Bounds,
        may_define: Callable[[], bool],
        shed: Refusal | None,
    ) -> tuple[Decoded, list[asyncio.Future[None]]]:
        """Decodes an expanded body. Returns what it holds, and what has to be waited for until
        all of it is durable; each may raise Overloaded. Raises as RemoteWriteDecoder.decode does.
        """
        needed = rows_needed(len(body))
        if self._columns.rows and self._columns.rows + needed > len(self._columns.ids):
            self.flush()
        if needed > len(self._columns.ids):
            self._columns = SampleColumns.empty(needed)
        found = self._decoder.decode(body, version, source, bounds, self._columns, may_define, shed)
        batch = self._batch
        for target, definition in found.definitions:
            batch.definitions.setdefault(target, []).append(definition)
        batch.defined += found.defined
        bulk = self._decoder.targets.bulk
        in_critical = bool(found.critical) or any(t >= bulk for t, _ in found.definitions)
        news = self._metadata_news(found) if shed is None else {}
        batch.metadata |= news
        in_bulk = (
            found.samples + found.derived > found.critical
            or any(t < bulk for t, _ in found.definitions)
            or bool(news)
        )
        waits = []
        for name, concerned in (("critical", in_critical), ("bulk", in_bulk)):
            if concerned:
                if name not in batch.sent:
                    batch.sent[name] = self._loop.create_future()
                waits.append(batch.sent[name])
        if waits and batch.timer is None:
            batch.timer = self._loop.call_later(self._wait_s, self.flush)
        if self._columns.rows >= self._most:
            self.flush()
        if self._records is not None and (found.histograms or found.exemplars):
            waits += self._records.add(found, bounds)
        return found, waits

    def _metadata_news(self, found: Decoded) -> dict[str, Metadata]:
        """What a request says of metrics that was not sent before. Version 2.0 says it with each
        series, and so it goes with their definitions; 1.0 says it apart, mostly later, and perhaps
        to another gateway than that which knows the series.
        """
        if found.version is Version.V2 or not found.metadata:
            return {}
        return self._told.told(found.metadata)

    def retarget(self, targets: Targets) -> None:
        """Goes by other partitions from now on. Every series is defined again, where it is now."""
        self.flush()
        self._decoder.retarget(targets)

    def flush(self) -> None:
        """Sends what has been gathered."""
        batch, self._batch = self._batch, _Batch()
        if batch.timer is not None:
            batch.timer.cancel()
        if not batch.sent:
            return
        bulk_targets = self._decoder.targets.bulk
        of_lane: dict[str, list[TargetMessage]] = {"critical": [], "bulk": []}
        for message in self._encode(self._columns, batch.definitions):
            if message.target < bulk_targets:
                of_lane["bulk"].append(message)
            else:
                partition = message.target - bulk_targets
                of_lane["critical"].append(replace(message, target=partition))
        of_lane["bulk"] += encode_metadata(batch.metadata)
        self._columns.rows = 0
        for name, messages in of_lane.items():
            answer = batch.sent.get(name)
            if answer is None:
                continue
            if not messages:
                answer.set_result(None)
                continue
            delivered = self._lanes[name].deliver(messages)
            told = batch.metadata if name == "bulk" else ()
            delivered.add_done_callback(self._passes_on(answer, batch.defined, told))

    def _passes_on(
        self, answer: asyncio.Future[None], defined: Sequence[SeriesKey], told: Iterable[str]
    ) -> Callable[[asyncio.Future[None]], None]:
        def done(delivered: asyncio.Future[None]) -> None:
            error = delivered.exception()
            if error is not None:
                self._decoder.table.undefine(defined)
                self._told.forget(told)
            if answer.done():  # nobody waits any more
                return
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)
                answer.exception()  # is retrieved, should nobody wait any more

        return done
