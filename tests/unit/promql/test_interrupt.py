"""Every query can be ended soon, and what is ended leaves nothing half done behind."""

import gc
import threading
import time
from itertools import count

import numpy as np
import pytest

from varve.promql import errors, result_json
from varve.promql.engine import Engine, Options
from varve.promql.evaluation.limits import Limits
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.interrupt import Interrupt, checked, sorted_with_checks
from varve.promql.kernels import warm_up
from varve.promql.labels.label_table import Column, Interned, LabelTable
from varve.promql.testing import MemoryStorage

LONGEST_S = 0.25
HOUR = 3_600_000

LONG = 10_000
"""Samples of each of the long series, one every 15 s."""
MANY = 150_000
"""Short series."""


class Recorder(threading.Event):
    """Never set. Knows the longest time that a thread computed between two questions."""

    def __init__(self):
        super().__init__()
        self.longest_s = 0.0
        self.asked = 0
        self._last = {}

    def is_set(self):
        thread, now = threading.get_ident(), time.thread_time()
        self.longest_s = max(self.longest_s, now - self._last.get(thread, now))
        self._last[thread] = time.thread_time()
        self.asked += 1
        return False


class SetAt(threading.Event):
    """Set from the n-th question on."""

    def __init__(self, n):
        super().__init__()
        self.left = n

    def is_set(self):
        self.left -= 1
        return self.left <= 0


def column(values, codes):
    return Column(np.asarray(codes, dtype=np.int32) + 1, Interned(values))


def of_columns(size, columns, length):
    ts = np.tile(np.arange(length, dtype=np.int64) * 15_000, size)
    values = np.random.default_rng(1).random(size * length).round(6)
    indptr = np.arange(size + 1, dtype=np.int64) * length
    return MemoryStorage.from_columns(LabelTable(size, columns), indptr, ts, values)


@pytest.fixture(scope="module")
def long_series():
    """300 series over 41 hours."""
    warm_up()
    rows = np.arange(300)
    columns = {
        "__name__": column(["m"], rows * 0),
        "instance": column([f"i{row}" for row in rows], rows),
        "zone": column([f"z{i}" for i in range(10)], rows % 10),
    }
    return of_columns(300, columns, LONG)


@pytest.fixture(scope="module")
def many_series():
    """Classic histograms of ten buckets each, with two samples."""
    warm_up()
    rows = np.arange(MANY)
    bounds = ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50", "+Inf"]
    columns = {
        "__name__": column(["w_bucket"], rows * 0),
        "instance": column([f"i{i}" for i in range(MANY // 10)], rows // 10),
        "le": column(bounds, rows % 10),
        "zone": column([f"z{i}" for i in range(1000)], rows // 10 % 1000),
    }
    return of_columns(MANY, columns, 2)


@pytest.fixture
def no_pauses():
    """No collection of the garbage of other tests counts as this one's work."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def assert_ended_soon(run):
    """Of three runs the best one counts: a busy machine adds to what a query itself computes."""
    stretches = []
    while len(stretches) < 3 and min(stretches, default=1.0) >= LONGEST_S:
        recorder = Recorder()
        recorder.is_set()
        run(recorder)
        stretches.append(recorder.longest_s)
    assert min(stretches) < LONGEST_S


def assert_it_can_be_ended_soon(storage, query, end, step):
    engine = Engine(storage, Options(limits=Limits(max_samples=200_000_000)))

    def run(recorder):
        if step:
            result = engine.range(query, 0, end, step, cancelled=recorder)
        else:
            result = engine.instant(query, end, cancelled=recorder)
        recorder.is_set()
        result_json.to_json(result)
        recorder.is_set()
        assert recorder.asked > 5

    assert_ended_soon(run)


@pytest.mark.parametrize(
    "query",
    [
        "m",
        "mad_over_time(m[6h])",
        "quantile_over_time(0.9, m[1d])",
        "predict_linear(m[6h], 60)",
        "rate(m[5m:15s])",
        "count_values('v', round(m * 10))",
        "day_of_year(m * 1e9)",
        "m % 0.3 + on (instance) m ^ 1.7",
        "m or m * 2",
        "label_replace(m, 'zone', '', '', '') or m",
        "topk by (zone) (3, m)",
        "quantile(0.9, m)",
        "increase(m[1h] anchored)",
        "info(m)",
    ],
)
def test_a_query_of_long_series_can_be_ended_soon(long_series, no_pauses, query):
    step = 15_000
    if any(word in query for word in ("_over_time", "_linear", "anchored", "info")):
        step = HOUR // 4
    assert_it_can_be_ended_soon(long_series, query, LONG * 15_000, step)


@pytest.mark.parametrize(
    "query",
    [
        "rate(w_bucket[1m])",
        'w_bucket{instance!~"i(1|2)+.*"}',
        "sum without (le) (w_bucket)",
        "count_values('v', w_bucket)",
        "topk by (zone) (5, w_bucket)",
        "limit_ratio(0.3, w_bucket)",
        "label_replace(w_bucket, 'x', '$1-a', 'instance', 'i(.*)')",
        "label_join(w_bucket, 'x', '-', 'instance', 'zone')",
        "histogram_quantile(0.9, w_bucket)",
        "w_bucket + on (instance, le) w_bucket",
        "w_bucket or rate(w_bucket[1m])",
        "w_bucket * on (instance, zone) group_left sum by (instance, zone) (w_bucket)",
        "w_bucket * on (instance, le) group_left fill(1) rate(w_bucket[1m])",
        "sort(w_bucket)",
        "sort_by_label_desc(w_bucket, 'le', 'instance')",
        "info(w_bucket)",
    ],
)
def test_a_query_of_many_series_can_be_ended_soon(many_series, no_pauses, query):
    # What sorts does so in instant queries alone, and labels are the same work in both.
    step = 0 if query.startswith(("sort", "label_", "info", "w_bucket{")) else 5000
    assert_it_can_be_ended_soon(many_series, query, 2 * 15_000, step)


@pytest.mark.parametrize(
    "text",
    [
        "m" + " + 1" * 100_000,
        "m" + " or m" * 100_000,
        "m{" + ",".join(f'l{i}="v"' for i in range(50_000)) + "}",
        "sum by (" + ",".join(f"l{i}" for i in range(100_000)) + ") (m)",
        "# " + "x" * 1_000_000 + "\nm",
        'm{a="' + "x" * 1_000_000 + '"}',
    ],
)
def test_a_long_text_can_be_given_up_soon(no_pauses, text):
    def run(recorder):
        Engine(MemoryStorage.empty()).plan(text, recorder.is_set)
        recorder.is_set()

    assert_ended_soon(run)


@pytest.fixture(scope="module")
def small():
    series = {
        (("__name__", name), ("instance", f"i{i}"), ("job", "a"), ("le", le)): [
            (t * 15_000, float(t * i), 0) for t in range(40)
        ]
        for i, le in enumerate(["1", "2", "+Inf"])
        for name in ("m_bucket", "n")
    }
    described = ("instance", "i1"), ("job", "a")
    series[(("__name__", "target_info"), *described, ("x", "y"))] = [(0, 1.0, 0)]
    series[(("__name__", "h"), ("instance", "i1"))] = [
        (t * 15_000, FloatHistogram(count=t + 1, sum=t, positive={1: t + 1}), 0) for t in range(40)
    ]
    return MemoryStorage.of(series)


QUERIES = [
    "1 + 2",
    'm_bucket{instance=~"i.*", le!~"1"}',
    "n[2m]",
    "h[2m]",
    "rate(n[1m] smoothed) + on (instance) group_left sum by (instance) (m_bucket)",
    "sum by (job) (rate(n[1m])) / sum by (job) (rate(n[1m]))",
    "topk(2, n) or quantile(0.5, n)",
    "count_values('v', n) or count_values('v', h)",
    "histogram_quantile(0.5, m_bucket) or histogram_quantile(0.5, h)",
    "label_replace(n, 'x', '$1', 'instance', '(.*)')",
    "sort_by_label(n, 'instance')",
    "info(n)",
    "rate(h[1m]) + h",
    "n + on (instance) fill(1) m_bucket{le='1'}",
    "max_over_time(n[2m:10s])",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_is_ended_anywhere_leaves_the_next_one_undisturbed(small, query):
    def run(engine, cancelled):
        if "[2m]" in query:
            result = engine.instant(query, 500_000, cancelled=cancelled)
        else:
            result = engine.range(query, 0, 500_000, 50_000, cancelled=cancelled)
        return result_json.to_json(result)

    expected = run(Engine(small), None)
    engine = Engine(small.extended([]))
    for n in count(1):
        try:
            answer = run(engine, SetAt(n))
        except errors.QueryCanceledError:
            continue
        break
    assert answer == expected
    assert n > 3


def test_a_deadline_of_the_caller_counts_instead_of_the_timeout():
    engine = Engine(MemoryStorage.empty(), Options(limits=Limits(timeout_s=0.0)))
    patient = Engine(MemoryStorage.empty(), Options(limits=Limits(timeout_s=600.0)))

    with pytest.raises(errors.QueryTimeoutError):
        engine.instant("1", 0)
    engine.instant("1", 0, deadline=time.monotonic() + 600)
    engine.range("1", 0, 1, 1, deadline=time.monotonic() + 600)
    for run in (
        lambda at: patient.instant("1", 0, deadline=at),
        lambda at: patient.range("1", 0, 1, 1, deadline=at),
    ):
        with pytest.raises(errors.QueryTimeoutError):
            run(time.monotonic() - 0.001)


def test_an_answer_is_not_written_past_the_deadline(small):
    deadline = time.monotonic() + 0.2
    result = Engine(small).instant("n[10m]", 500_000, deadline=deadline)
    while time.monotonic() <= deadline:
        pass

    with pytest.raises(errors.QueryTimeoutError):
        result_json.to_json(result)


def test_an_interrupt_is_due_after_its_deadline_and_not_at_it():
    now = [5.0]
    check = Interrupt(5.0, monotonic=lambda: now[0]).check

    check()
    now[0] = 5.001
    with pytest.raises(errors.QueryTimeoutError):
        check()


def test_checks_come_between_items():
    seen = []

    items = list(checked(range(1000), lambda: seen.append("check"), 300))

    assert items == list(range(1000))
    assert len(seen) == 4


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1000])
def test_sorting_with_checks_sorts(size):
    values = np.random.default_rng(size).integers(0, 50, size).tolist()
    seen = []

    found = sorted_with_checks([(v, i) for i, v in enumerate(values)], lambda: seen.append(1), 100)

    assert found == sorted((v, i) for i, v in enumerate(values))
    assert len(seen) == -(-size // 100) + 1
