import itertools

import numpy as np
import pytest

from varve.collectors.demo import BURST, LEAK, history, rhythm
from varve.model.window import DAY_MS, HOUR_MS

END_MS = 1_760_000_000_000
MIDNIGHT_MS = END_MS // DAY_MS * DAY_MS


@pytest.fixture(scope="module")
def week():
    return history(END_MS, days=8, interval_s=60, seed=1)


def _values(story, metric, **labels):
    found = [
        s.values
        for s in story.series
        if s.definition.metric == metric and labels.items() <= dict(s.definition.tags).items()
    ]
    assert found, (metric, labels)
    return np.sum(found, axis=0)


def _at(story, ms):
    return int(np.searchsorted(story.ts_ms, MIDNIGHT_MS + ms))


def test_it_is_about_a_hundred_series_all_marked_generated(week):
    assert 90 <= len(week.series) <= 110
    assert len({s.definition.series_id for s in week.series}) == len(week.series)
    for definition, values in week.series:
        tags = dict(definition.tags)
        assert (tags["job"], tags["generated"]) == ("demo-shop", "true")
        assert definition.type in ("counter", "gauge", "histogram")
        assert len(values) == len(week.ts_ms) == 8 * 1440
        assert np.isfinite(values).all()
        assert (values >= 0).all()


def test_equal_arguments_give_equal_values_and_another_seed_others(week):
    again = history(END_MS, days=8, interval_s=60, seed=1)
    other = history(END_MS, days=8, interval_s=60, seed=2)

    assert [s.definition for s in again.series] == [s.definition for s in week.series]
    assert all(
        np.array_equal(a.values, b.values) for a, b in zip(again.series, week.series, strict=True)
    )
    assert not all(
        np.array_equal(a.values, b.values) for a, b in zip(other.series, week.series, strict=True)
    )


def test_it_ends_at_the_last_whole_step(week):
    assert week.ts_ms[-1] == END_MS // 60_000 * 60_000
    assert set(np.diff(week.ts_ms)) == {60_000}


def test_counters_fall_only_where_their_server_was_restarted(week):
    (started,) = [
        s.values
        for s in week.series
        if s.definition.metric == "process_start_time_seconds"
        and dict(s.definition.tags)["instance"] == "web-2"
    ]
    restarts = set(np.flatnonzero(np.diff(started)))
    assert len(restarts) == 5  # the leak begins and ends with one, and causes three
    for definition, values in week.series:
        falls = set(np.flatnonzero(np.diff(values) < 0))
        if definition.type in ("counter", "histogram"):
            allowed = restarts if dict(definition.tags).get("instance") == "web-2" else set()
            assert falls <= allowed, definition


def test_buckets_are_cumulative_and_the_last_is_the_count(week):
    bounds = ["0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "+Inf"]
    name = "shop_request_duration_seconds"
    buckets = [_values(week, f"{name}_bucket", instance="web-1", le=le) for le in bounds]

    assert all((a <= b).all() for a, b in itertools.pairwise(buckets))
    assert np.array_equal(buckets[-1], _values(week, f"{name}_count", instance="web-1"))
    requests = _values(week, "shop_requests_total", instance="web-1")
    assert np.array_equal(buckets[-1], requests)


def test_the_burst_is_errors_with_slow_answers(week):
    first, last = _at(week, BURST[0]), _at(week, BURST[1])
    before = first - (last - first)

    def ratio(metric, low, high, **labels):
        part, whole = _values(week, metric, instance="web-1", **labels), None
        whole = _values(week, metric, instance="web-1")
        return (part[high] - part[low]) / (whole[high] - whole[low])

    def mean_seconds(low, high):
        total = _values(week, "shop_request_duration_seconds_sum", instance="web-1")
        count = _values(week, "shop_request_duration_seconds_count", instance="web-1")
        return (total[high] - total[low]) / (count[high] - count[low])

    assert ratio("shop_requests_total", first, last - 1, code="500") > 0.15
    assert ratio("shop_requests_total", before, first - 1, code="500") < 0.01
    assert mean_seconds(first, last - 1) > 3 * mean_seconds(before, first - 1)


def test_the_leak_fills_one_server_until_it_restarts(week):
    first, last = _at(week, LEAK[0]), _at(week, LEAK[1])
    memory = {
        name: _values(week, "process_resident_memory_bytes", instance=name)[first:last]
        for name in ("web-1", "web-2")
    }

    assert memory["web-2"].max() > 3 * memory["web-2"].min()
    assert memory["web-1"].max() < 2 * memory["web-1"].min()


def test_days_repeat_and_the_weekend_is_quieter():
    hours = np.arange(14 * 24) * HOUR_MS
    traffic = rhythm(hours).reshape(14, 24)

    assert (traffic[:, 13] > 5 * traffic[:, 3]).all()
    assert np.array_equal(traffic[:7], traffic[7:])
    days = traffic.sum(axis=1)
    assert days[3] == days.min()  # 1970-01-04 was a Sunday


def test_samples_of_a_span_are_those_of_its_timestamps(week):
    first, last = int(week.ts_ms[10]), int(week.ts_ms[13])
    samples = list(week.samples(first, last))

    assert len(samples) == 3 * len(week.series)
    assert {s.ts_ms for s in samples} == set(week.ts_ms[10:13].tolist())
