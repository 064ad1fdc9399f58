"""Histograms and exemplars of requests become messages that ingest reads."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.gateway.decoding import ANY_TIME, NOW_MS
from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.first_sight import Exemplar
from varve.gateway.histograms import HistogramSample
from varve.gateway.lane import Overloaded
from varve.gateway.negotiation import Version
from varve.gateway.record_batcher import TELL_AGAIN_S, RecordBatcher, RecordRoad
from varve.gateway.refusals import Refusal
from varve.ingest import arrow_codec
from varve.model.identity import define
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.histograms.stored_rows import histogram_of

SERIES = [define("latency", {"n": str(n)}) for n in range(12)]
HISTOGRAM = FloatHistogram(3, 6.0, 1.5, 0.001, 1.0, {-1: 2.0, 4: 3.0}, hint="not_reset")


class Lane:
    def __init__(self):
        self.messages = []
        self.error = None

    def deliver(self, messages):
        answer = asyncio.get_running_loop().create_future()
        if self.error is not None:
            answer.set_exception(self.error)
        else:
            self.messages += messages
            answer.set_result(None)
        return answer

    def blocks(self):
        """What the messages hold, as ingest reads them; forgets them."""
        found = [(m, arrow_codec.read(m.value)) for m in self.messages]
        self.messages = []
        for message, block in found:
            assert not block.rejects
            assert {i % 3 for i in block.series_ids.tolist()} == {message.target}
            assert message.samples == len(block)
        return [block for _, block in found]

    def rows(self):
        """(series_id, ts, the other columns), and the series that were defined."""
        rows, defined = [], []
        for block in self.blocks():
            rest = block.rest.to_pylist()
            rows += zip(block.series_ids.tolist(), block.ts.tolist(), rest, strict=True)
            defined += block.definitions
        return rows, defined


class Deployment:
    def __init__(self, *, tables=("histograms", "exemplars")):
        self.now_s = 1_000.0
        self.lanes = {table: Lane() for table in tables}
        self.records = RecordBatcher(lambda: self.now_s, wait_s=0.0)
        for table, lane in self.lanes.items():
            self.records.open(table, RecordRoad(lane, 3))

    async def send(self, *, histograms=(), exemplars=(), bounds=ANY_TIME):
        found = Decoded(Version.V2, histograms=list(histograms), exemplars=list(exemplars))
        waits = self.records.add(found, bounds)
        if waits:
            await asyncio.wait(waits)
        for wait in waits:
            wait.result()
        return found


def sample(ts_ms=NOW_MS, start_ms=0, histogram=HISTOGRAM):
    return HistogramSample(ts_ms, histogram, start_ms)


def histograms(lane):
    rows, _ = lane.rows()
    return [(ts, histogram_of(row)) for _, ts, row in rows]


def scenario(story):
    def test():
        asyncio.run(story())

    test.__name__ = story.__name__
    return test


@scenario
async def test_histograms_come_back_as_they_were_with_the_definitions_of_their_series():
    d = Deployment()
    stale = sample(NOW_MS + 1, histogram=None)

    await d.send(histograms=[*((one, sample()) for one in SERIES), (SERIES[0], stale)])

    rows, defined = d.lanes["histograms"].rows()
    assert sorted(defined, key=str) == sorted(SERIES, key=str)
    assert {(i, ts) for i, ts, _ in rows} == {
        *((one.series_id, NOW_MS) for one in SERIES),
        (SERIES[0].series_id, NOW_MS + 1),
    }
    for _, ts, row in rows:
        found = histogram_of(row)
        if ts == NOW_MS:
            assert found.equals(HISTOGRAM)
            assert found.hint == "not_reset"
        else:
            assert found is None
    assert not d.lanes["exemplars"].messages


@scenario
async def test_exemplars_come_back_as_they_were():
    d = Deployment()
    one = Exemplar({"trace_id": "t", "b": "ä"}, -1.5, NOW_MS)

    await d.send(exemplars=[(SERIES[0], one)])

    rows, defined = d.lanes["exemplars"].rows()
    labels = [("b", "ä"), ("trace_id", "t")]
    assert rows == [(SERIES[0].series_id, NOW_MS, {"value": -1.5, "labels": labels})]
    assert defined == [SERIES[0]]


@scenario
async def test_a_series_is_defined_once_and_again_after_a_while_or_a_loss():
    d = Deployment()
    lane = d.lanes["histograms"]

    async def defines(ts_ms):
        await d.send(histograms=[(SERIES[0], sample(ts_ms))])
        return lane.rows()[1] == [SERIES[0]]

    assert await defines(NOW_MS)
    assert not await defines(NOW_MS + 1)
    d.now_s += TELL_AGAIN_S
    assert await defines(NOW_MS + 2)
    assert not await defines(NOW_MS + 3)
    d.records.forget_told("histograms")
    assert await defines(NOW_MS + 4)
    lane.error = Overloaded("full")
    d.records.forget_told("histograms")
    with pytest.raises(Overloaded):
        await defines(NOW_MS + 5)
    lane.error = None
    assert await defines(NOW_MS + 5)


@scenario
async def test_what_has_no_topic_is_refused_and_the_answer_says_so():
    d = Deployment(tables=("exemplars",))
    d.records.without("histograms", "there is no topic raw-histograms: create it")

    found = await d.send(
        histograms=[(SERIES[0], sample())],
        exemplars=[(SERIES[0], Exemplar({}, 1.0, NOW_MS))],
    )

    assert found.histograms == []
    assert found.refusals.others == {Refusal.NOT_STORED: 1}
    assert "1 native histograms, first of latency: there is no topic" in found.refusals.text()
    assert len(d.lanes["exemplars"].messages) == 1


@scenario
async def test_a_start_that_is_news_becomes_an_empty_histogram():
    d = Deployment()
    lane = d.lanes["histograms"]
    bounds = Bounds(0, 1 << 62, lookback_ms=300_000)

    async def times(ts_ms, start_ms):
        await d.send(histograms=[(SERIES[0], sample(ts_ms, start_ms))], bounds=bounds)
        derived = [m.derived for m in lane.messages]
        found = histograms(lane)
        assert sum(derived) == len(found) - 1
        for ts, histogram in found[:-1]:
            assert ts == start_ms
            assert (histogram.count, histogram.sum, histogram.zero_count) == (0.0, 0.0, 0.0)
            assert not histogram.positive
            assert histogram.hint == "reset"
            assert (histogram.schema, histogram.zero_threshold) == (3, 0.001)
        return [ts for ts, _ in found]

    assert await times(NOW_MS, NOW_MS - 300_001) == [NOW_MS]  # a first connect is no repair storm
    assert await times(NOW_MS + 10, NOW_MS - 1) == [NOW_MS + 10]  # known already
    assert await times(NOW_MS + 30, NOW_MS + 20) == [NOW_MS + 20, NOW_MS + 30]  # it began anew
    assert await times(NOW_MS + 40, NOW_MS + 20) == [NOW_MS + 40]
    assert await times(NOW_MS + 50, NOW_MS + 60) == [NOW_MS + 50]  # no start is after its sample
    d.records.forget_told("histograms")
    fresh = Deployment()
    await fresh.send(histograms=[(SERIES[1], sample(NOW_MS, NOW_MS - 300_000))], bounds=bounds)
    assert [ts for ts, _ in histograms(fresh.lanes["histograms"])] == [NOW_MS - 300_000, NOW_MS]


@scenario
async def test_the_longest_histograms_and_labels_fit_into_messages_of_a_mebibyte():
    d = Deployment()
    wide = replace(HISTOGRAM, positive={2 * n: 1.0 for n in range(20_000)})
    long = [define("m", {"n": str(n), "x": "y" * 200_000}) for n in range(6)]

    await d.send(histograms=[(one, sample(histogram=wide)) for one in long])

    lane = d.lanes["histograms"]
    assert len(lane.messages) > 1
    assert max(len(m.value) for m in lane.messages) < 1_000_000
    assert all(found.equals(wide) for _, found in histograms(lane))
