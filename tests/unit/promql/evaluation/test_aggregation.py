"""Sums and means of histograms and floats: the order of the samples decides what is told."""

import math

import pytest

from tests.unit.promql.asking import engine_of, labels, vector
from varve.promql.histograms.native_histogram import FloatHistogram

EXPONENTIAL = FloatHistogram(count=2, sum=3, positive={1: 2})
CUSTOM = FloatHistogram(schema=-53, count=2, sum=3, positive={0: 2}, custom_values=(1.0, 5.0))
OTHER_BOUNDS = FloatHistogram(schema=-53, count=1, sum=2, positive={0: 1}, custom_values=(1.0, 9.0))

FLOATS_TOO = "encountered a mix of histograms and floats for aggregation (1:5)"
KINDS = (
    "vector contains a mix of histograms with exponential and custom buckets schemas"
    ' for metric name "m" (1:5)'
)
RECONCILED = "mismatched custom buckets were reconciled during aggregation (1:5)"


def asked(op, *samples, at_ms=0):
    engine = engine_of({labels("m", i=str(i)): [sample] for i, sample in enumerate(samples)})
    result = engine.instant(f"{op}(m)", at_ms)
    return vector(result), [text.split(": ", 1)[1] for text in result.warnings + result.infos]


@pytest.mark.parametrize("op", ["sum", "avg"])
@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([1.0, EXPONENTIAL], [FLOATS_TOO]),
        ([EXPONENTIAL, 1.0], [FLOATS_TOO]),
        ([EXPONENTIAL, CUSTOM], [KINDS]),
        ([EXPONENTIAL, 1.0, CUSTOM], [KINDS, FLOATS_TOO]),
        ([EXPONENTIAL, CUSTOM, 1.0], [KINDS]),
        ([1.0, EXPONENTIAL, CUSTOM], [FLOATS_TOO]),
        ([CUSTOM, OTHER_BOUNDS, 1.0], [FLOATS_TOO, RECONCILED]),
        ([CUSTOM, OTHER_BOUNDS, EXPONENTIAL], [KINDS, RECONCILED]),
        (
            [EXPONENTIAL.with_hint("reset"), 1.0, EXPONENTIAL.with_hint("not_reset")],
            [FLOATS_TOO],
        ),
    ],
)
def test_a_mix_has_no_sum_and_is_told_by_what_came_first(op, samples, told):
    assert asked(op, *samples) == ({}, told)


def test_a_mean_that_would_overflow_as_a_sum_is_taken_incrementally():
    huge = FloatHistogram(count=1e308, sum=1e308, positive={1: 1e308})

    found, told = asked("avg", huge, huge, huge)

    assert found[()].count == pytest.approx(1e308, rel=1e-12)
    assert found[()].positive[1] == pytest.approx(1e308, rel=1e-12)
    assert told == []


def test_a_k_that_changes_with_the_step_notes_histograms_where_some_may_be_kept():
    engine = engine_of({labels("m", i="h"): [EXPONENTIAL] * 3, labels("m", i="f"): [1.0] * 3})

    at_first_alone = engine.range(
        "topk(scalar(vector(1) * (time() < bool 5)), m)", 0, 20_000, 10_000
    )

    assert len(at_first_alone.infos) == 1


def test_a_ratio_out_of_bounds_is_told_even_of_nothing():
    result = engine_of({labels("m"): [1.0]}).instant("limit_ratio(2, nothing)", 0)

    assert result.warnings == [
        "PromQL warning: ratio value should be between -1 and 1, got 2, capping to 1 (1:13)"
    ]


def test_equal_histograms_of_nan_observations_count_as_equal():
    nan_sum = FloatHistogram(count=2, sum=math.nan, positive={1: 2})
    engine = engine_of({labels("h"): [nan_sum, nan_sum]})

    assert vector(engine.instant("changes(h[1m])", 10_000)) == {(): 0.0}
    assert len(vector(engine.instant("h == h", 0))) == 1
