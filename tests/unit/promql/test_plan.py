import pytest

from tests.unit.promql.asking import storage_of
from varve.promql.engine import Engine
from varve.promql.explain import explain
from varve.promql.labels.natural_order import is_before
from varve.promql.syntax.go_numbers import format_f, format_g, format_open_metrics


@pytest.fixture(scope="module")
def engine():
    return Engine(storage_of(a_total=[(0, 1.0), (60_000, 2.0)]))


def plan(engine, query):
    text = explain(engine, query, 0, 120_000, 60_000)
    return [line.split("  estimated")[0].strip() for line in text.splitlines()]


def test_numbers_are_folded(engine):
    assert plan(engine, "a_total + (2 * 3 - 1)")[-1] == "number 5"
    assert plan(engine, "1 + 2 * 3") == ["number 7"]


def test_an_aggregation_of_a_rate_is_one_kernel(engine):
    lines = plan(engine, "sum by (job) (rate(a_total[5m]))")

    assert lines[0] == "in one pass: sum by (job), rate"
    assert len(lines) == 2


@pytest.mark.parametrize("query", ["topk(1, rate(a_total[5m]))", "quantile(0.5, a_total)"])
def test_what_needs_every_series_is_not_fused(engine, query):
    assert not any("in one pass" in line for line in plan(engine, query))


def test_a_part_that_does_not_depend_on_the_step_is_told(engine):
    assert plan(engine, "a_total @ 0")[0] == "once for all steps"


def test_matchers_narrow_the_right_side_of_a_set_operator(engine):
    assert plan(engine, 'a{job="x"} and b')[2] == 'select {__name__="b", job="x"}'
    assert plan(engine, 'a{job="x"} or b')[2] == 'select {__name__="b"}'


@pytest.mark.parametrize(
    ("value", "f", "g", "open_metrics"),
    [
        (1.0, "1", "1", "1.0"),
        (0.1, "0.1", "0.1", "0.1"),
        (1e6, "1000000", "1e+06", "1e+06"),
        (123456.0, "123456", "123456", "123456.0"),
        (1e-5, "0.00001", "1e-05", "1e-05"),
        (-0.0, "-0", "-0", "0.0"),
        (float("inf"), "+Inf", "+Inf", "+Inf"),
        (float("nan"), "NaN", "NaN", "NaN"),
    ],
)
def test_numbers_are_written_as_go_does(value, f, g, open_metrics):
    assert (format_f(value), format_g(value)) == (f, g)
    assert format_open_metrics(value) == open_metrics


@pytest.mark.parametrize(
    ("a", "b"), [("n2", "n10"), ("a", "b"), ("a1b2", "a1b10"), ("", "a"), ("9", "a"), ("a", "a1")]
)
def test_natural_order(a, b):
    assert is_before(a, b)
    assert not is_before(b, a)
