"""Native histograms and exemplars of requests: gathered for a moment, then sent by a lane each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.histograms import HistogramSample
from varve.gateway.messages import TargetMessage
from varve.gateway.record_messages import MOST_BYTES, Record, encode, of_exemplar, of_histogram
from varve.gateway.refusals import Refusal
from varve.model.identity import SeriesDefinition
from varve.model.record_rows import RECORD_TABLES

TELL_AGAIN_S: Final = 600.0
"""Seconds after which a series is defined once more, in case the first message was lost."""

_MOST_SERIES: Final = 500_000
_NAMES: Final = {"histograms": "native histograms", "exemplars": "exemplars"}

_Key = tuple[int, int]


class Delivers(Protocol):
    """What it needs of a Lane."""

    def deliver(self, messages: Sequence[TargetMessage]) -> asyncio.Future[None]: ...


class RecordRoad(NamedTuple):
    """Where the records of a table go. partitions: of the lane's topic."""

    lane: Delivers
    partitions: int


@dataclass
class _Batch:
    """What the next messages of a table hold."""

    answer: asyncio.Future[None]
    timer: asyncio.TimerHandle
    records: list[Record] = field(default_factory=list)
    size: int = 0


class RecordBatcher:
    """Gathers records into messages and hands them to lanes. For one event loop's thread."""

    def __init__(self, now_s: Callable[[], float], *, wait_s: float = 0.003) -> None:
        """now_s: a clock that never goes back. wait_s: how long after its first record a batch
        ends. Until a table's road is open its records are refused.
        """
        self._roads: dict[str, RecordRoad] = {}
        self._why_not = {table: f"kafka.topics.{table} is empty" for table in RECORD_TABLES}
        self._now_s = now_s
        self._wait_s = wait_s
        self._batches: dict[str, _Batch] = {}
        self._told: dict[str, dict[_Key, float]] = {table: {} for table in RECORD_TABLES}
        self._newest: dict[_Key, int] = {}
        self._loop = asyncio.get_running_loop()

    def open(self, table: str, road: RecordRoad) -> None:
        """Lets records of a table be taken."""
        self._roads[table] = road

    def without(self, table: str, why: str) -> None:
        """Says why records of a table are refused."""
        self._why_not[table] = why

    def add(self, found: Decoded, bounds: Bounds) -> list[asyncio.Future[None]]:
        """Takes the records of a request. Returns what has to be waited for until they are durable;
        each may raise Overloaded.
        """
        waits = []
        for table, items in (("histograms", found.histograms), ("exemplars", found.exemplars)):
            if not items:
                continue
            if table not in self._roads:
                text = (
                    f"{len(items)} {_NAMES[table]}, first of {items[0][0].metric}:"
                    f" {self._why_not[table]}"
                )
                found.refusals.add(Refusal.NOT_STORED, text, others=len(items))
                items.clear()
                continue
            records = (
                self._of_histograms(found.histograms, bounds)
                if table == "histograms"
                else [of_exemplar(*item) for item in found.exemplars]
            )
            waits.append(self._put(table, records))
        return waits

    def forget_told(self, table: str) -> None:
        """Makes series be defined again: what defined them may be behind what is sent now."""
        self._told[table].clear()

    def _put(self, table: str, records: Iterable[Record]) -> asyncio.Future[None]:
        batch = self._batches.get(table)
        if batch is None:
            timer = self._loop.call_later(self._wait_s, self._flush, table)
            batch = self._batches[table] = _Batch(self._loop.create_future(), timer)
        for record in records:
            batch.records.append(record)
            batch.size += record.size
        if batch.size >= MOST_BYTES:
            self._flush(table)
        return batch.answer

    def _flush(self, table: str) -> None:
        batch = self._batches.pop(table)
        batch.timer.cancel()
        lane, partitions = self._roads[table]
        told, now_s = self._told[table], self._now_s()
        if len(told) > _MOST_SERIES:
            told.clear()

        def is_told(series: SeriesDefinition) -> bool:
            return told.get((series.series_id, series.check), -TELL_AGAIN_S) > now_s - TELL_AGAIN_S

        messages = list(encode(table, batch.records, partitions, is_told))
        fresh = {(r.series.series_id, r.series.check) for r in batch.records}
        for key in fresh:
            if told.get(key, -TELL_AGAIN_S) <= now_s - TELL_AGAIN_S:
                told[key] = now_s

        def done(delivered: asyncio.Future[None]) -> None:
            error = delivered.exception()
            if error is not None:
                for key in fresh:
                    told.pop(key, None)
            if batch.answer.done():  # nobody waits any more
                return
            if error is None:
                batch.answer.set_result(None)
            else:
                batch.answer.set_exception(error)
                batch.answer.exception()  # is retrieved, should nobody wait any more

        lane.deliver(messages).add_done_callback(done)

    def _of_histograms(
        self, items: Iterable[tuple[SeriesDefinition, HistogramSample]], bounds: Bounds
    ) -> Iterable[Record]:
        """A record of each, and before it an empty one at its start where that is news."""
        for series, sample in items:
            if len(self._newest) > _MOST_SERIES:
                self._newest.clear()
            key = series.series_id, series.check
            newest = self._newest.get(key, 0)
            start = sample.start_ms
            is_news = start > newest if newest else sample.ts_ms - start <= bounds.lookback_ms
            if bounds.oldest_ms <= start and 0 < start < sample.ts_ms and is_news:
                yield of_histogram(series, _empty(sample), derived=True)
            self._newest[key] = max(newest, sample.ts_ms)
            yield of_histogram(series, sample)


def _empty(sample: HistogramSample) -> HistogramSample:
    """Nothing counted yet, at the start of a histogram. Other fields are its own, as a change of
    the layout would look like a reset.
    """
    found = sample.histogram
    if found is not None:
        found = replace(
            found, count=0.0, sum=0.0, zero_count=0.0, positive={}, negative={}, hint="reset"
        )
    return HistogramSample(sample.start_ms, found)
