"""What functions and aggregations answer at the edges of their definitions."""

import math

import pytest

from tests.unit.promql.asking import engine_of, labels, vector
from varve.promql.errors import QueryError
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.labels.natural_order import is_before

NAN, INF = math.nan, math.inf
HISTOGRAM = FloatHistogram(count=1, sum=1, positive={0: 1})

SERIES = {
    **{labels("trig", l=name): [v] for name, v in (("x", 10.0), ("y", 20.0), ("z", NAN))},
    **{
        labels("s", i=name): [v]
        for name, v in (("a", 3.0), ("b", NAN), ("c", -2.0), ("d", 5.0), ("e", NAN))
    },
    **{labels("node", i=name): [1.0] for name in ("n1", "n2", "n10", "m11")},
    labels("hist"): [HISTOGRAM],
    labels("m"): [1.0, 2.0, 3.0, 3.0, 1.0, 1.0, NAN, 2.0],
    labels("sign"): [0.0, -1.0, INF, -0.0],
    labels("mixed"): [10.0, 12.0, 11.0, 14.0, HISTOGRAM, 20.0],
    labels("gap"): [1.0, None, None, 4.0],
    labels("counter"): [0.0, 10.0, 20.0, 5.0, 15.0],
    labels("flat"): [INF, INF, INF],
}


@pytest.fixture(scope="module")
def engine():
    return engine_of(SERIES)


def same(a, b):
    """Whether they agree to the last digits, with the sign of a zero."""
    if math.isnan(b):
        return math.isnan(a)
    return a == pytest.approx(b, rel=1e-12) and math.copysign(1, a) == math.copysign(1, b)


@pytest.mark.parametrize(
    ("query", "at_s", "expected"),
    [
        ("acosh(trig)", 0, [2.993222846126381, 3.6882538673612966, NAN]),
        ("asinh(trig)", 0, [2.99822295029797, 3.6895038689889055, NAN]),
        ("atanh(trig)", 0, [NAN, NAN, NAN]),
        ("acos(trig - 9.5)", 0, [1.0471975511965979, NAN, NAN]),
        ("rad(trig)", 0, [0.17453292519943295, 0.3490658503988659, NAN]),
        ("deg(trig)", 0, [572.9577951308232, 1145.9155902616465, NAN]),
        ("trig atan2 trig", 0, [math.pi / 4, math.pi / 4, NAN]),
        ("sgn(sign)", 0, [0.0]),
        ("sgn(sign)", 10, [-1.0]),
        ("sgn(sign)", 20, [1.0]),
        ("sgn(sign)", 30, [-0.0]),
        ("max_over_time(m[80s])", 70, [3.0]),
        ("ts_of_max_over_time(m[80s])", 70, [30.0]),
        ("ts_of_min_over_time(m[80s])", 70, [50.0]),
        ("ts_of_first_over_time(gap[20s])", 30, [30.0]),
        ("double_exponential_smoothing(mixed[1m], 0.5, 0.1)", 50, [18.00375]),
        ("present_over_time(mixed[1m])", 50, [1.0]),
        ("mad_over_time(mixed[1m])", 50, [2.0]),
        ("count_over_time(mixed[1m])", 50, [6.0]),
        ("changes(mixed[1m])", 50, [5.0]),
        ("resets(counter[1m])", 40, [1.0]),
        ("increase(counter[40s])", 40, [25 / 30 * 40]),
        ("idelta(gap[1m])", 30, [3.0]),
        ("irate(counter[1m])", 30, [0.5]),
        ("deriv(flat[1m])", 20, [NAN]),
        ("predict_linear(gap[1m], 10)", 30, [5.0]),
        ("clamp(trig, 15, 12)", 0, []),
        ("clamp(trig, 12, 15)", 0, [12.0, 15.0, NAN]),
        ("round(vector(-0.5))", 0, [0.0]),
        ("round(vector(2.35), 0.1)", 0, [2.4]),
        ("quantile_over_time(0.5, m[25s])", 30, [3.0]),
        ("scalar(trig)", 0, None),
        ("absent(none{a='b', c=~'d'})", 0, [1.0]),
        ("topk(0, s)", 0, []),
        ("topk(-1, s)", 0, []),
        ("sort(hist)", 0, []),
        ("double_exponential_smoothing(none[1m], 7, 7)", 0, []),
        ("days_in_month(vector(1709164800))", 0, [29.0]),
        ("day_of_year(vector(1735603200))", 0, [366.0]),
        ("day_of_week(vector(-86400))", 0, [3.0]),
        ("quantile(-1, s)", 0, [-INF]),
        ("count_values('v', node)", 0, [4.0]),
        ("group(s)", 0, [1.0]),
        ("stddev(node)", 0, [0.0]),
    ],
)
def test_the_values_of(engine, query, at_s, expected):
    result = engine.instant(query, at_s * 1000)

    if expected is None:
        assert math.isnan(result.value)
    else:
        found = list(vector(result).values())
        assert all(map(same, found, expected)), found
        assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("sort(s)", "cadeb"),
        ("sort_desc(s)", "daceb"),
        ("topk(4, s)", "dacb"),
        ("bottomk(4, s)", "cadb"),
        ("sort_by_label(s, 'i')", "abcde"),
        ("sort_by_label_desc(s, 'i')", "edcba"),
    ],
)
def test_the_order_of(engine, query, order):
    found = vector(engine.instant(query, 0))

    assert [dict(key)["i"] for key in found] == list(order)


def test_labels_sort_in_natural_order(engine):
    found = vector(engine.instant("sort_by_label(node, 'i')", 0))

    assert [dict(key)["i"] for key in found] == ["m11", "n1", "n2", "n10"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("topk(NaN, s)", "Parameter value is NaN"),
        ("topk(1e30, s)", r"Scalar value 1e\+30 overflows int64"),
        ("limit_ratio(NaN, s)", "Ratio value is NaN"),
        (
            "double_exponential_smoothing(m[1m], 0, 0.1)",
            "invalid smoothing factor. Expected: 0 < sf < 1, got: 0.000000",
        ),
        (
            "double_exponential_smoothing(m[1m], 0.1, 1)",
            "invalid trend factor. Expected: 0 < tf < 1, got: 1.000000",
        ),
        ("s + on () trig", "many-to-many|multiple matches|duplicate series"),
        ("label_replace(s, 'i', 'x', 'i', '.*')", "same labelset"),
        ("resets(m[1m] smoothed)", "smoothed modifier can only be used with: delta"),
        ("deriv(m[1m] anchored)", "anchored modifier can only be used with: changes"),
    ],
)
def test_what_fails(engine, query, message):
    with pytest.raises(QueryError, match=message):
        engine.instant(query, 50_000 if "m[" in query else 0)


@pytest.mark.parametrize(
    ("query", "warnings", "infos"),
    [
        ("topk(1, hist)", [], ["ignored histogram in topk aggregation (1:1)"]),
        ("quantile(NaN, s)", ["quantile value should be between 0 and 1, got NaN (1:10)"], []),
        (
            "limit_ratio(-2, s)",
            ["ratio value should be between -1 and 1, got -2, capping to -1"],
            [],
        ),
        (
            "quantile_over_time(2, mixed[1m])",
            ["quantile value should be between 0 and 1, got 2 (1:20)"],
            [
                'both floats and histograms for metric name "mixed" (1:20)',
            ],
        ),
        (
            "rate(m[1m])",
            [],
            [
                'name does not end in _total/_sum/_count/_bucket: "m" (1:6)',
            ],
        ),
        ("avg(mixed)", [], []),
        (
            "sum_over_time(mixed[1m])",
            ['encountered a mix of histograms and floats for metric name "mixed" (1:15)'],
            [],
        ),
    ],
)
def test_what_is_noted(engine, query, warnings, infos):
    result = engine.instant(query, 50_000)

    for found, expected in ((result.warnings, warnings), (result.infos, infos)):
        assert len(found) == len(expected)
        assert all(text in whole for text, whole in zip(expected, found, strict=True))


def test_quantiles_that_change_with_the_step_are_noted_by_their_extremes(engine):
    result = engine.range("quantile(1 - time(), s)", 0, 3_000, 1_000)

    assert result.warnings == [
        "PromQL warning: quantile value should be between 0 and 1, got -2 (1:10)"
    ]


def test_sorting_a_range_is_noted(engine):
    result = engine.range("1 + sort(s)", 0, 20_000, 10_000)

    text = "sort is ineffective for range queries since results are always ordered by labels"
    assert result.warnings == [f"PromQL warning: {text} (1:5)"]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("clamp_max(vector(NaN), -Inf)", -INF),
        ("clamp_min(vector(NaN), Inf)", INF),
        ("clamp(vector(NaN), 0, 1)", NAN),
        ("vector(max_of(NaN, Inf))", INF),
        ("vector(min_of(-Inf, NaN))", -INF),
        ("vector(max_of(-0, 0))", 0.0),
        ("vector(min_of(0, -0))", -0.0),
    ],
)
def test_extremes_are_those_of_go(engine, query, value):
    assert same(vector(engine.instant(query, 0))[()], value)


@pytest.mark.parametrize(
    ("x", "finite"), [(709.7, True), (709.79, False), (710.4, False), (-710.2, False), (-709, True)]
)
def test_sinh_and_cosh_overflow_where_exp_does(x, finite):
    engine = engine_of({labels("v"): [float(x)]})

    sinh = vector(engine.instant("sinh(v)", 0))[()]
    cosh = vector(engine.instant("cosh(v)", 0))[()]

    assert math.isfinite(sinh) is math.isfinite(cosh) is finite
    assert sinh == math.copysign(cosh, x)


@pytest.mark.parametrize("x", [0.0, -0.0, 1e-9, 0.3, -20.9, 21.1, 400.0, -709.5])
def test_sinh_and_cosh_are_those_of_the_library_elsewhere(x):
    engine = engine_of({labels("v"): [x]})

    assert vector(engine.instant("sinh(v)", 0))[()] == pytest.approx(math.sinh(x), rel=1e-14)
    assert vector(engine.instant("cosh(v)", 0))[()] == pytest.approx(math.cosh(x), rel=1e-14)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("every[20s + 0s]", 2),
        ("every[0ms + 20s]", 2),
        ("every[20s - 0]", 2),
        ("every[max_of(0s, 30s)]", 3),
        ("every[1m * 0 + 10s]", 1),
        ("every[20s] offset (10s + 0s)", 2),
        ("every[20s] offset 0s", 2),
        ("every[20s:10s + 0s]", 2),
        ("every[20s + 0s:0s + 10s] offset (0s - 0s)", 2),
    ],
)
def test_an_operand_of_a_duration_may_be_zero(query, count):
    engine = engine_of({labels("every"): [1.0] * 10})

    assert vector(engine.instant(f"count_over_time({query})", 60_000)) == {(): count}


@pytest.mark.parametrize(
    "duration", ["1m - 60s", "0s * 5m", "min_of(0s, 1m)", "0s - 5m", "step()", "5m % 1m"]
)
@pytest.mark.parametrize("query", ["count_over_time(every[{}])", "max_over_time(every[1m:{}])"])
def test_a_duration_that_comes_out_as_zero_or_less_is_refused(query, duration):
    engine = engine_of({labels("every"): [1.0] * 10})

    with pytest.raises(QueryError, match="duration must be greater than 0"):
        engine.instant(query.format(duration), 60_000)


WARNS = "sort is ineffective for range queries"


@pytest.mark.parametrize("function", ["sort", "sort_desc", "sort_by_label", "sort_by_label_desc"])
@pytest.mark.parametrize(("end", "step"), [(0, 1000), (999, 1000), (30_000, 30_000), (90_000, 10)])
def test_sort_warns_in_every_range_query_however_many_steps_it_has(engine, function, end, step):
    result = engine.range(f"{function}(m)", 0, end, step)

    assert [WARNS in text for text in result.warnings] == [True]


@pytest.mark.parametrize(
    ("query", "warned"),
    [
        ("sort(m)", 0),
        ("count_over_time(sort(m)[1m:10s])", 1),
        ("count_over_time(sort(m)[20s:20s])", 1),
        ("count_over_time((m)[1m:10s])", 0),
    ],
)
def test_sort_warns_in_an_instant_query_only_within_a_subquery(engine, query, warned):
    assert sum(WARNS in text for text in engine.instant(query, 30_000).warnings) == warned


@pytest.mark.parametrize(
    ("selector", "stated"),
    [
        ('nope{a="1", b="2"}', {"a": "1", "b": "2"}),
        ('nope{a="1", a="1"}', {}),
        ('nope{a="1", a!="2"}', {}),
        ('nope{a!="2", a="1", c="3"}', {"c": "3"}),
        ('nope{a=~"1|2", a="1"}', {}),
        ('nope{a!~"2.*", b="x", a="1", a!=""}', {"b": "x"}),
        ('nope{a=~"1", b=""}', {}),
        ('{__name__="nope", a="1"}', {"a": "1"}),
        ('{__name__!="nope", __name__=~"no.+", a="1"}', {"a": "1"}),
    ],
)
def test_absence_states_what_one_matcher_alone_says_by_equality(engine, selector, stated):
    expected = {tuple(stated.items()): 1.0}

    assert vector(engine.instant(f"absent({selector})", 0)) == expected
    assert vector(engine.instant(f"absent_over_time({selector}[1m])", 0)) == expected


def test_bounds_of_buckets_are_read_as_go_reads_floats():
    bounds = {"017": 2.0, "1_000": 4.0, "0x1p10": 6.0, "+Inf": 8.0}
    bad = {"0x10": 1.0, "1e999": 1.0, " 1": 1.0, "+nan": 1.0}
    buckets = {labels("b_bucket", le=bound): [count] for bound, count in (bounds | bad).items()}
    engine = engine_of(buckets)

    result = engine.instant("histogram_quantile(0.25, b_bucket)", 0)

    assert vector(result) == {(): 17.0}
    assert sorted(text.split('"')[3] for text in result.warnings) == sorted(bad)


def test_a_factor_is_wrong_only_where_there_is_something_to_smooth(engine):
    query = "double_exponential_smoothing(gap[10s], 0.5, scalar(vector(2)))"

    assert vector(engine.instant(query, 25_000)) == {}
    with pytest.raises(QueryError, match="invalid trend factor. Expected: 0 < tf < 1, got: 2.0000"):
        engine.instant(query, 30_000)


def test_what_is_noted_of_a_subquery_is_at_the_start(engine):
    infos = engine.instant("sum(rate(m[1m:10s]))", 30_000).infos

    assert [text.rsplit(" ", 1)[1] for text in infos] == ["(1:1)"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a2b", "a10b"),
        ("a", "a1"),
        ("2", "10"),
        ("9223372036854775807", "9223372036854775808"),
        ("18446744073709551616", "9223372036854775808"),  # too long for numbers, so texts
        ("0" * 5000 + "1", "2"),
        ("9" * 5000, "a"),
    ],
)
def test_natural_order(first, second):
    assert is_before(first, second)
    assert not is_before(second, first)
