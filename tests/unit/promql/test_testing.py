import numpy as np
import pytest

from varve.model.staleness import STALE_NAN
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.promql.testing import MemoryStorage


def labels(name, **rest):
    return tuple(sorted({"__name__": name, **rest}.items()))


@pytest.fixture
def storage():
    return MemoryStorage.of(
        {
            labels("up", job="node", instance="a"): [(1000, 1.0, 0), (2000, 0.0, 0)],
            labels("up", job="web", instance="b"): [(5000, 1.0, 0)],
            labels("load", job="node", instance="a"): [(1000, 0.5, 0), (2000, STALE_NAN, 0)],
        }
    )


def equal(name, value):
    return Matcher(name, MatchOp.EQUAL, value)


def selected(storage, *matchers):
    return storage.select(matchers, 0, 10_000, SelectHints()).labels.labels()


@pytest.mark.parametrize(
    ("matchers", "names"),
    [
        ([equal("__name__", "up")], ["up", "up"]),
        ([equal("__name__", "up"), equal("job", "web")], ["up"]),
        ([equal("job", "nope")], []),
        ([equal("nope", "")], ["load", "up", "up"]),
        ([Matcher("job", MatchOp.NOT_EQUAL, "web")], ["load", "up"]),
        ([Matcher("__name__", MatchOp.REGEX, "l.*|nothing")], ["load"]),
        ([Matcher("instance", MatchOp.NOT_REGEX, "a|")], ["up"]),
        ([Matcher("nope", MatchOp.NOT_EQUAL, "")], []),
    ],
)
def test_a_selection_has_the_series_that_all_matchers_match(storage, matchers, names):
    assert [dict(row)["__name__"] for row in selected(storage, *matchers)] == names


def test_series_come_sorted_by_labels(storage):
    rows = selected(storage, Matcher("__name__", MatchOp.NOT_EQUAL, ""))

    assert rows == sorted(rows)


def test_equal_selections_share_their_table(storage):
    first = storage.select([equal("job", "node")], 0, 1, SelectHints())
    second = storage.select([equal("job", "node")], 5, 6, SelectHints())

    assert first.labels is second.labels


def test_series_with_stale_markers_are_marked(storage):
    selection = storage.select([equal("job", "node")], 0, 10_000, SelectHints())

    assert dict(zip(["load", "up"], selection.samples.has_stale.tolist(), strict=True)) == {
        "load": True,
        "up": False,
    }


def test_label_values_are_those_of_series_with_samples_in_the_range(storage):
    assert storage.label_values("job", [], 0, 10_000) == ["node", "web"]
    assert storage.label_values("job", [], 0, 3000) == ["node"]
    assert storage.label_values("instance", [[equal("job", "web")]], 0, 10_000) == ["b"]
    assert storage.label_values("nope", [], 0, 10_000) == []


def test_label_names_are_those_of_series_that_any_matcher_list_matches(storage):
    matchers = [[equal("__name__", "load")], [equal("__name__", "nothing")]]

    assert storage.label_names(matchers, 0, 10_000) == ["__name__", "instance", "job"]


def test_further_samples_extend_a_series_and_replace_those_of_one_time(storage):
    series = labels("up", job="node", instance="a")

    extended = storage.extended([(series, [(2000, 7.0, 0), (3000, 8.0, 0)])])

    selection = extended.select(
        [equal("instance", "a"), equal("__name__", "up")], 0, 9, SelectHints()
    )
    samples = selection.samples
    span = slice(samples.begins[0], samples.ends[0])
    assert samples.ts[span].tolist() == [1000, 2000, 3000]
    assert samples.values[span].tolist() == [1.0, 7.0, 8.0]


def test_columns_are_reordered_with_their_series():
    table = LabelTable.of([{"__name__": "b"}, {"__name__": "a"}])
    storage = MemoryStorage.from_columns(
        table, np.array([0, 2, 3]), np.array([10, 20, 5]), np.array([1.0, 2.0, 3.0])
    )

    selection = storage.select([Matcher("__name__", MatchOp.NOT_EQUAL, "")], 0, 99, SelectHints())

    samples = selection.samples
    found = [
        samples.values[begin:end].tolist()
        for begin, end in zip(samples.begins, samples.ends, strict=True)
    ]
    assert selection.labels.values_of("__name__") == ["a", "b"]
    assert found == [[3.0], [1.0, 2.0]]


def test_two_series_with_the_same_labels_are_refused():
    table = LabelTable.of([{"a": "1"}, {"a": "1"}])

    with pytest.raises(ValueError, match="same labels"):
        MemoryStorage.from_columns(table, np.zeros(3, int), np.zeros(0, int), np.zeros(0))
