"""Estimates from some series: which queries have one, what is drawn, how far off it may be."""

from __future__ import annotations

import numpy as np
import pytest

from varve.promql.errors import StorageError
from varve.promql.evaluation.values import Matrix
from varve.promql.labels.label_table import LabelTable
from varve.promql.syntax.parser import parse
from varve.query.sampling import LEAST, Sample, estimable, estimate
from varve.query.series_index import SelectedSeries

RNG = np.random.default_rng(5)


def series_of(sizes):
    """So many series in each of some groups, under ids by chance."""
    labels = [
        {"__name__": "x", "g": f"{g}", "i": f"{i}"} for g, n in enumerate(sizes) for i in range(n)
    ]
    ids = RNG.permutation(np.arange(1, len(labels) + 1)) * 7_777_777
    return SelectedSeries(ids, LabelTable.of(labels), np.argsort(ids))


def estimated(text, series, values, present=None):
    """The estimate from those of the values that belong to series which are drawn."""
    sample = Sample(estimable(parse(text)))
    drawn = sample.draw(series)
    rows = np.flatnonzero(np.isin(series.series_ids, drawn.series_ids))
    present = np.ones_like(values, dtype=np.bool_) if present is None else present
    found = Matrix(drawn.labels, values[rows], present[rows], np.zeros(len(rows), dtype=np.bool_))
    return sample, estimate(sample, found)


@pytest.mark.parametrize(
    "text",
    [
        "sum(x)",
        "count by (a) (x{b='c'})",
        "(avg without (a) ((x)))",
        "sum(rate(x[5m] offset 1h))",
        "avg(-rate(x[5m]) * 100 / 2)",
        "sum(2 + increase(x[1h] @ 5))",
        "sum(x" + " + 1" * 5_000 + ")",
    ],
)
def test_sums_counts_and_averages_of_one_selector_have_an_estimate(text):
    assert estimable(parse(text)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "rate(x[5m])",
        "max(x)",
        "topk(3, x)",
        "quantile(0.5, x)",
        "stddev(x)",
        "sum(max_over_time(x[5m]))",
        "sum(x + y)",
        "sum(x / on (a) x)",
        "sum(abs(x))",
        "sum(x > 1)",
        "sum(x ^ 2)",
        "sum(sum(x))",
        "sum(rate(x[5m:1m]))",
        "sum(vector(1))",
        "sum(x) / sum(y)",
        "histogram_quantile(0.9, sum by (le) (rate(x[5m])))",
    ],
)
def test_what_has_no_error_to_state_is_not_estimated(text):
    assert estimable(parse(text)) is None


def test_small_groups_are_read_whole_and_of_large_ones_a_share():
    series = series_of([1, LEAST, 100, 3_200])

    sample, found = estimated("sum by (g) (x)", series, np.ones((series.size, 1)))

    assert sample.sizes.tolist() == [1, LEAST, 100, 3_200]
    assert sample.drawn.tolist() == [1, LEAST, LEAST, 200]
    assert (found.bounds[:2] == 0).all()
    assert found.matrix.values[:, 0] == pytest.approx([1, LEAST, 100, 3_200])


def test_the_same_series_are_drawn_each_time():
    series = series_of([5_000])
    query = estimable(parse("sum(x)"))

    first, second = (Sample(query).draw(series) for _ in range(2))

    assert np.array_equal(first.series_ids, second.series_ids)
    assert np.array_equal(first.series_ids[first.by_id], np.sort(first.series_ids))


@pytest.mark.parametrize("op", ["sum", "count", "avg"])
@pytest.mark.parametrize("alive", [1.0, 0.99, 0.6])
def test_the_value_is_within_its_bound_as_often_as_is_said(op, alive):
    """Of 300 groups of 1,000 series, of which some have no sample."""
    series = series_of([1_000] * 300)
    values = RNG.normal(50, 20, (series.size, 1))
    present = RNG.random(values.shape) < alive
    kept = np.where(present, values, 0.0).reshape(300, 1_000)
    count = present.reshape(300, 1_000).sum(axis=1)
    truth = {"sum": kept.sum(axis=1), "count": count, "avg": kept.sum(axis=1) / count}[op]

    _, found = estimated(f"{op} by (g) (x)", series, values, present)

    off = found.matrix.values[:, 0] - truth
    within = (np.abs(off) <= found.bounds[:, 0] + 1e-9).mean()
    assert 0.91 <= within <= (1 if alive > 0.9 and op == "count" else 0.985)
    # Errors go both ways: their mean is far nearer to nothing than one of them.
    spread = found.bounds[:, 0].mean() / 1.96
    assert abs(off.mean()) <= 4 * spread / np.sqrt(300) + 1e-9


def test_an_estimate_needs_one_population():
    sample = Sample(estimable(parse("sum(x)")))
    sample.draw(series_of([100]))

    with pytest.raises(StorageError, match="same series"):
        sample.draw(series_of([101]))


def test_one_sample_among_those_drawn_says_nothing_of_the_error_of_a_mean():
    series = series_of([1_000])
    sample = Sample(estimable(parse("avg(x)")))
    drawn = sample.draw(series)
    present = np.zeros((drawn.size, 2), dtype=np.bool_)
    present[3, 0] = True
    matrix = Matrix(drawn.labels, np.full((drawn.size, 2), 7.0), present, present[:, 0])

    found = estimate(sample, matrix)

    assert found.matrix.values[0, 0] == 7
    assert np.isnan(found.bounds[0, 0])
    assert found.matrix.present.tolist() == [[True, False]]
