import threading
import time
import tracemalloc

import numpy as np
import pytest

from tests.unit.promql.asking import labels, storage_of, vector
from varve.model.staleness import STALE_NAN
from varve.promql import errors
from varve.promql.engine import Engine, Options
from varve.promql.evaluation.limits import Budget, Limits
from varve.promql.explain import explain
from varve.promql.interrupt import Interrupt, never
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import SelectHints
from varve.promql.syntax.cursor import ParseError
from varve.promql.testing import MemoryStorage

LATER = 10**12


def many_series(count):
    """A sample each, just before LATER."""
    rows = [{"__name__": "m", "i": str(i)} for i in range(count)]
    ts = LATER - np.arange(count, dtype=np.int64)
    return MemoryStorage.from_columns(LabelTable.of(rows), np.arange(count + 1), ts, np.ones(count))


def test_an_instant_selector_looks_back_five_minutes_to_but_not_with_its_start():
    engine = Engine(storage_of(a=[(0, 1.0)]))

    assert vector(engine.instant("a", 299_999)) == {labels("a"): 1.0}
    assert vector(engine.instant("a", 300_000)) == {}


def test_a_stale_marker_ends_a_series_at_once():
    engine = Engine(storage_of(a=[(0, 1.0), (1000, STALE_NAN), (2000, 3.0)]))

    assert vector(engine.instant("a", 1500)) == {}
    assert vector(engine.instant("count_over_time(a[1m])", 2500)) == {(): 2.0}


def test_a_window_excludes_its_start():
    engine = Engine(storage_of(a=[(0, 1.0), (60_000, 2.0)]))

    assert vector(engine.instant("count_over_time(a[1m])", 60_000)) == {(): 1.0}


def test_the_result_of_a_range_query_is_sorted_and_has_no_empty_series():
    engine = Engine(storage_of(b=[(0, 1.0)], a=[(0, 1.0)], c=[(10**9, 1.0)]))

    result = engine.range('{__name__=~".+"}', 0, 60_000, 30_000)

    names = result.value.labels.labels()
    assert [names[row] for row in result.order.tolist()] == [labels("a"), labels("b")]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("sum(", ParseError),
        ("label_replace(a, '', 'x', 'y', 'z')", errors.QueryError),
        ("a + on () {__name__=~'a|b'}", errors.QueryError),
        ("2 </ 1", errors.QueryError),
        ("time() >/ 1", errors.QueryError),
    ],
)
def test_a_query_that_cannot_be_answered_raises(query, error):
    engine = Engine(storage_of(a=[(0, 1.0)], b=[(0, 1.0)]))

    with pytest.raises(error):
        engine.instant(query, 0)


def test_a_range_query_of_a_range_vector_is_bad_data():
    with pytest.raises(errors.BadQueryError, match='invalid expression type "range vector"'):
        Engine(MemoryStorage.empty()).range("a[5m]", 0, 10, 10)


@pytest.mark.parametrize(
    "bomb",
    [
        'count_over_time({__name__=~".+"}[30d:1s])',
        'sum(sum_over_time({__name__=~".+"}[30d:1s]))',
        'max_over_time(rate({__name__=~".+"}[5m])[30d:1s])',
        "sum_over_time(vector(1)[100y:1ms])",
    ],
)
def test_a_bomb_is_refused_by_the_name_of_its_limit_before_memory_is_touched(bomb):
    engine = Engine(many_series(2000))
    engine.instant("count(m)", 0)
    tracemalloc.start()

    with pytest.raises(errors.LimitError, match="query.max_samples"):
        engine.instant(bomb, LATER)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_selector_of_too_many_series_is_refused():
    engine = Engine(many_series(20), Options(limits=Limits(max_series=10)))

    with pytest.raises(
        errors.LimitError, match=r"20 of one selector are over query.max_series = 10"
    ):
        engine.instant("m", LATER)


class Guessing(MemoryStorage):
    """Knows only that no series has more samples than there are, and no sample's time."""

    def count(self, matchers, start_ms, end_ms, check=never):
        found = super().select(matchers, start_ms, end_ms, SelectHints())
        return found.samples.series, 10 * len(found.samples.ts)


def churned():
    """Ten series at a time, a new ten each hour; a sample a minute."""
    return Guessing.of(
        {
            labels("m", pod=f"{hour}-{i}", node=str(i)): [
                (hour * 3_600_000 + minute * 60_000, float(minute), 0) for minute in range(60)
            ]
            for hour in range(24)
            for i in range(10)
        }
    )


DAY = 24 * 3_600_000


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ('count_over_time(m{pod="7-3"}[1d])', {"max_samples": 62}),
        ("count_over_time(m[1h])", {"max_samples": 660}),
        ("sum(rate(m[1h]))", {"max_samples": 660}),
        ("m", {"max_samples": 70}),
        ("timestamp(m)", {"max_samples": 70}),
        ("m + m", {"max_samples": 90}),
        ("m", {"max_series": 10}),
        ("sum by (node) (count_over_time(m[1h]))", {"max_series": 20}),
    ],
)
def test_limits_count_the_samples_selected_and_the_series_that_have_any(query, limits):
    storage = churned()
    at = DAY - 60_000

    found = vector(Engine(storage, Options(limits=Limits(**limits))).instant(query, at))

    assert found == vector(Engine(storage).instant(query, at)) != {}


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ('count_over_time(m{pod="7-3"}[1d])', {"max_samples": 60}),
        ("count_over_time(m[1h])", {"max_samples": 590}),
        ("count_over_time(m[3h])", {"max_series": 25}),
        ("m", {"max_series": 9}),
    ],
)
def test_limits_refuse_what_is_beyond_them_when_it_is_counted(query, limits):
    with pytest.raises(errors.LimitError, match=next(iter(limits))):
        Engine(churned(), Options(limits=Limits(**limits))).instant(query, DAY - 60_000)


def test_too_many_steps_are_bad_data():
    with pytest.raises(errors.BadQueryError, match="query.max_points = 11,000"):
        Engine(MemoryStorage.empty()).range("1", 0, 11_001_000, 1000)
    Engine(MemoryStorage.empty()).range("1", 0, 11_000_000, 1000)


def test_a_cancelled_query_stops():
    cancelled = threading.Event()
    cancelled.set()

    with pytest.raises(errors.QueryCanceledError):
        Engine(storage_of(a=[(0, 1.0)])).instant("a + a", 0, cancelled=cancelled)


def test_a_query_past_its_deadline_stops():
    now = [0.0]
    budget = Budget(Limits(), Interrupt(10.0, monotonic=lambda: now[0]).check)
    budget.check_running()

    now[0] = 10.5

    with pytest.raises(errors.QueryTimeoutError):
        budget.check_running()


def test_a_chain_of_thousands_of_operators_is_evaluated():
    engine = Engine(storage_of(a=[(0, 1.0)]))

    assert vector(engine.instant("a" + " + 1" * 5000, 0)) == {(): 5001.0}
    assert vector(engine.instant(" or ".join(["a"] * 2000), 0)) == {labels("a"): 1.0}


def test_ten_thousand_parentheses_are_an_error_not_a_crash():
    with pytest.raises(ParseError):
        Engine(MemoryStorage.empty()).instant("(" * 10_000 + "1" + ")" * 10_000, 0)


def test_equal_subtrees_are_evaluated_once():
    engine = Engine(storage_of(a_total=[(0, 1.0), (60_000, 2.0)]))

    once = engine.instant("rate(a_total[5m])", 60_000).stats.samples_touched
    twice = engine.instant("rate(a_total[5m]) / rate(a_total[5m])", 60_000).stats.samples_touched

    assert once == twice > 0


def test_a_part_that_does_not_depend_on_the_step_is_evaluated_once():
    engine = Engine(storage_of(a=[(0, 1.0)]))

    result = engine.range("a @ 0", 0, 600_000, 60_000)

    assert result.stats.samples_touched == 1
    assert result.value.values.tolist() == [[1.0] * 11]


def test_a_plan_tells_what_is_fused_and_what_was_read():
    engine = Engine(storage_of(a_total=[(0, 1.0), (60_000, 2.0)]))

    text = explain(engine, "sum(rate(a_total[5m])) + 1", 60_000, 60_000, 0, run=True)

    assert text.splitlines() == [
        "operator +",
        "  in one pass: sum of all, rate  looked at: 1 series, 2 samples in all windows",
        (
            '    select {__name__="a_total"} windows of 5m'
            "  estimated: 1 series, 2 samples  actual: 1 series, 2 samples"
        ),
        "  number 1",
    ]


def test_warnings_point_at_the_argument_that_caused_them():
    engine = Engine(storage_of(a=[(0, 1.0)]))

    result = engine.instant("quantile(\n  2, a)", 0)

    assert result.warnings == [
        "PromQL warning: quantile value should be between 0 and 1, got 2 (2:3)"
    ]


def test_queries_from_many_threads_do_not_disturb_each_other():
    engine = Engine(storage_of(a=[(t, float(t)) for t in range(0, 100_000, 1000)]))
    wrong = []

    def ask(offset):
        for _ in range(20):
            found = vector(engine.instant(f"a offset {offset}s", 90_000))
            if found != {labels("a"): 90_000.0 - offset * 1000}:
                wrong.append(found)

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in (1, 2, 3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))

    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_what_no_single_kernel_can_judge_is_selected_once_all_the_same():
    storage = storage_of(gauge=[(0, 1.0), (60_000, 2.0)])
    asked = []
    select = storage.select
    storage.select = lambda *args: asked.append(args[-1].function) or select(*args)

    result = Engine(storage).instant("sum(rate(gauge[5m]))", 60_000)

    assert asked.count("rate") == 1  # count() of this storage selects, too, for nothing
    assert "might not be a counter" in result.infos[0]
