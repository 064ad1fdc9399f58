import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, record
from tests.unit.ingest.test_task import ATTIC, HOUR_MS, run
from varve.ingest.age_limits import AgeLimits
from varve.ingest.limits import Limits, MetricLimits, parse
from varve.model.errors import NeedsOperator
from varve.model.identity import define, id_range
from varve.model.series_matcher import SeriesMatcher
from varve.storage.matched_series import MatchedSeries
from varve.storage.table import Table

SHORT = Limits(metrics={"temperature": MetricLimits(max_age_s=3_600, max_future_s=0)})


def registered(store, *series):
    open_registry(store).register([(s, NOW_MS) for s in series])


def test_a_metric_has_bounds_of_its_own_and_the_others_those_of_all(store):
    ages = [0, 1, 2]

    outcome = run(
        store,
        as_arrow([(ATTIC, NOW_MS - hours * HOUR_MS, 1.0) for hours in ages]),
        as_arrow([(define("other", {}), NOW_MS - hours * HOUR_MS, 1.0) for hours in ages]),
        as_json(record(NOW_MS + 1, metric="temperature"), record(NOW_MS + 1)),
        limits=SHORT,
    )

    assert (outcome.stored, outcome.rejected) == (6, {"too_old": 1, "too_far_in_future": 1})


def test_samples_that_name_their_series_by_id_alone_are_told_apart_by_the_registry(store):
    # Two metrics whose ids share a range.
    first, _ = id_range("temperature")
    twin = next(n for n in (f"m{k}" for k in range(100_000)) if id_range(n)[0] == first)
    others = define(twin, {"a": "b"})
    registered(store, ATTIC, others)
    old = NOW_MS - 2 * HOUR_MS

    outcome = run(
        store, as_arrow([(ATTIC, old, 1.0), (others, old, 1.0)], defined=False), limits=SHORT
    )

    assert (outcome.stored, outcome.rejected) == (1, {"too_old": 1})


def test_no_limit_goes_beyond_what_retention_allows(store):
    limits = Limits(metrics={"temperature": MetricLimits(max_age_s=10**9)})

    outcome = run(store, as_arrow([(ATTIC, NOW_MS - 25 * HOUR_MS, 1.0)]), limits=limits)

    assert outcome.rejected == {"too_old": 1}


def test_a_metric_may_be_allowed_further_into_the_future_than_others(store):
    limits = Limits(metrics={"temperature": MetricLimits(max_future_s=48 * 3_600)})
    ahead = NOW_MS + 24 * HOUR_MS

    outcome = run(
        store, as_arrow([(ATTIC, ahead, 1.0), (define("m", {}), ahead, 1.0)]), limits=limits
    )

    assert (outcome.stored, outcome.rejected) == (1, {"too_far_in_future": 1})


def test_the_default_of_the_file_is_that_of_every_metric_without_a_section(store):
    limits = parse("[default]\nmax_age_s = 60\n[metric.temperature]\nmax_age_s = 7200", "f")
    old = NOW_MS - HOUR_MS

    outcome = run(store, as_arrow([(ATTIC, old, 1.0), (define("m", {}), old, 1.0)]), limits=limits)

    assert (outcome.stored, outcome.rejected) == (1, {"too_old": 1})


@pytest.mark.parametrize("value", ["-1", "1.5", "true"])
def test_a_bound_that_is_no_whole_number_is_refused(value):
    with pytest.raises(NeedsOperator, match="not a whole number"):
        parse(f"[default]\nmax_future_s = {value}", "limits.toml")


def test_members_follow_the_registry(store):
    members = MatchedSeries(store)
    metrics = [SeriesMatcher.of_metric(name) for name in ("temperature", "pressure")]
    assert [members.of(m, 0).tolist() for m in metrics] == [[], []]
    for n in range(6):
        pair = [define(metric.metric, {"n": str(n)}) for metric in metrics]
        registered(store, *pair)
        version = Table(store, "series").version
        for metric in metrics:
            expected = sorted(define(metric.metric, {"n": str(k)}).series_id for k in range(n + 1))
            assert members.of(metric, version).tolist() == expected
            assert MatchedSeries(store).of(metric, version).tolist() == expected


bounds = st.one_of(st.none(), st.integers(0, 10_000))
metrics = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.builds(MetricLimits, max_age_s=bounds, max_future_s=bounds),
    st.dictionaries(metrics, st.builds(MetricLimits, max_age_s=bounds, max_future_s=bounds)),
    st.lists(st.tuples(metrics, st.integers(0, 3)), max_size=8),
    st.booleans(),
)
def test_bounds_are_those_of_each_series_metric(default, of, series, known):
    now, oldest, newest = 10**12, 10**12 - 5_000_000, 10**12 + 600_000
    definitions = [define(metric, {"n": str(n)}) for metric, n in series]
    ids = np.array([d.series_id for d in definitions], np.int64)
    ages = AgeLimits(Limits(default=default, metrics=of), now, oldest, newest)

    def members(matcher):
        own = [d.series_id for d in definitions if known and matcher.matches(d)]
        return np.array(sorted(own), np.int64)

    found = ages.by_series(ids, members, lambda place: None if known else definitions[place])

    for place, definition in enumerate(definitions):
        limits = of.get(definition.metric, default)
        low, high = ages.default if found is None else (found[0][place], found[1][place])
        age, ahead = limits.max_age_s, limits.max_future_s
        assert low == (oldest if age is None else max(oldest, now - age * 1000))
        assert high == (newest if ahead is None else now + ahead * 1000)
