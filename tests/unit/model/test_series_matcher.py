import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.identity import define
from varve.model.series_matcher import SeriesMatcher

texts = st.text(st.sampled_from("ab.\n-é"), max_size=4)
labels = st.dictionaries(st.sampled_from(["a", "b", "c"]), texts, max_size=3)
series = st.builds(define, texts.filter(bool), labels)
patterns = st.sampled_from(["", "a", "a.*", "a|b", ".*", ".+", "[^a]*", "é?b*", r"\.", "(a)|\n"])
matchers = st.dictionaries(
    st.sampled_from(["__name__", "a", "b"]), patterns, min_size=1, max_size=3
).map(SeriesMatcher.of)


@given(matchers, st.lists(series, min_size=1, max_size=5))
def test_series_are_meant_if_every_label_matches_as_a_whole(matcher, defined):
    rows = pa.table(
        {
            "metric": [d.metric for d in defined],
            "tags": pa.array([list(d.tags) for d in defined], pa.map_(pa.string(), pa.string())),
        }
    )
    expected = [
        all(
            re.fullmatch(pattern, {"__name__": d.metric, **dict(d.tags)}.get(name, ""), re.DOTALL)
            for name, pattern in matcher.labels
        )
        for d in defined
    ]

    assert matcher.select(rows).to_pylist() == expected
    assert [matcher.matches(d) for d in defined] == expected


@given(matchers)
def test_its_text_says_it_all(matcher):
    assert SeriesMatcher.from_text(matcher.text) == matcher


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_that_of_a_metric_means_it_alone(metric, other):
    matcher = SeriesMatcher.of_metric(metric)

    assert matcher.metric == metric
    assert matcher.matches(define(metric, {"a": "b"}))
    assert matcher.matches(define(other, {})) == (metric == other)


@pytest.mark.parametrize("pattern", ["a.*", "a|b", "", "[a]"])
def test_a_pattern_that_may_mean_several_metrics_names_none(pattern):
    assert SeriesMatcher.of({"__name__": pattern}).metric is None
