"""What every promql.storage.Storage must do: one suite, run against each of them.

A test module subclasses StorageSuite and gives a fixture `open_storage`: a function of batches
that returns the storage they are in. A batch is {labels: [(time in ms, value)]} and is stored after
the one before it; None as a value ends a series, and a series may have no samples at all.
"""

import re
import threading
from random import Random

import numpy as np
import pytest

from tests.unit.promql.asking import labels, vector
from varve.model.staleness import STALE_NAN, is_stale
from varve.promql.engine import Engine
from varve.promql.errors import QueryCanceledError
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.promql.syntax.parser import parse

T = 1_795_338_000_000
ALL = Matcher("__name__", MatchOp.NOT_EQUAL, "")
UP_A = labels("up", job="node", instance="a")
UP_B = labels("up", job="web", instance="b", zone="eu")
LOAD = labels("load", job="node", instance="a")
ODD = labels("disk.free", path="/a b", quoted='"\\\n', ünï="✓")
SERIES = {
    UP_A: [(T + 1000, 1.0), (T + 2000, 0.0), (T + 60_000, 1.0)],
    UP_B: [(T + 5000, 1.0)],
    LOAD: [(T + 1000, 0.5), (T + 2000, None)],
    ODD: [(T + 3000, 7.5)],
}


def matchers(text):
    """Those of a selector, `{job="x"}`; a selector may not be empty, so a name is asked for."""
    return parse(text).matchers


def selected(storage, wanted, start, end, hints=None):
    """{labels: [(time, value)]} in (start, end], of all that came; "stale" for a stale marker."""
    selection = storage.select(wanted, start, end, hints or SelectHints())
    table, samples = selection.labels, selection.samples
    rows = table.labels()
    columns = (samples.begins, samples.ends, samples.has_stale)
    assert rows == sorted(set(rows)), "sorted by labels, each once"
    assert all(len(column) == len(rows) == samples.series for column in columns)
    assert [c.dtype for c in (samples.ts, samples.values, *columns)] == [
        *(np.int64, np.float64, np.int64, np.int64, np.bool_)
    ]
    assert all(c.flags.c_contiguous for c in (samples.ts, samples.values, *columns))
    found = {}
    for row, key in enumerate(rows):
        span = slice(samples.begins[row], samples.ends[row])
        ts, values = samples.ts[span], samples.values[span]
        assert (np.diff(ts) > 0).all(), "strictly ascending"
        stale = is_stale(np.ascontiguousarray(values))
        assert samples.has_stale[row] or not stale.any()
        found[key] = [
            (t, "stale" if marked else value)
            for t, value, marked in zip(ts.tolist(), values.tolist(), stale.tolist(), strict=True)
            if start < t <= end
        ]
    return found


def with_samples(found):
    return {key: points for key, points in found.items() if points}


def is_met(matcher, key):
    value = dict(key).get(matcher.name, "")
    if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
        return (value == matcher.value) is (matcher.op is MatchOp.EQUAL)
    found = re.fullmatch(matcher.value, value, re.DOTALL) is not None
    return found is (matcher.op is MatchOp.REGEX)


class StorageSuite:
    @pytest.fixture
    def storage(self, open_storage):
        return open_storage(SERIES)

    @pytest.mark.parametrize(
        ("start", "end", "times"),
        [
            (0, 1000, [1000]),
            (999, 2000, [1000, 2000]),
            (1000, 2000, [2000]),
            (1000, 1999, []),
            (2000, 59_999, []),
            (1999, 60_000, [2000, 60_000]),
            (60_000, 90_000, []),
        ],
    )
    def test_samples_are_those_after_the_start_up_to_and_with_the_end(
        self, storage, start, end, times
    ):
        found = selected(storage, matchers('up{job="node"}'), T + start, T + end)

        assert [t - T for t, _ in found.get(UP_A, [])] == times

    @pytest.mark.parametrize(
        "selector",
        [
            "up",
            'up{job="web"}',
            'up{job!="web"}',
            '{job!="web",__name__!=""}',
            '{job=~"n.*|nothing"}',
            '{instance!~"a|",__name__!=""}',
            '{__name__=~"u."}',
            '{__name__=~"up|load",job=~".+",instance="a"}',
            '{__name__!~"up|load|"}',
            '{zone="",__name__!=""}',
            '{zone!=""}',
            '{zone=~".*",__name__!=""}',
            '{zone=~"|eu",job="web"}',
            '{zone!~".+",__name__!=""}',
            '{nowhere="",__name__=~".+"}',
            '{nowhere="x",__name__=~".+"}',
            '{nowhere!="x",__name__=~".+"}',
            '{nowhere=~"x?",__name__=~".+"}',
            '{nowhere!~"",__name__=~".+"}',
            '{"disk.free"}',
            '{path=~"/a.b"}',
            '{quoted=~"(?s)..."}',
            '{quoted=~"...",__name__="disk.free"}',
            '{"ünï"="✓"}',
            '{job="node",job!="web",job=~"no.*"}',
            '{job="node",job="web"}',
        ],
    )
    def test_series_are_those_that_every_matcher_matches(self, storage, selector):
        wanted = matchers(selector)

        found = selected(storage, wanted, 0, T + 90_000)

        assert set(found) == {key for key in SERIES if all(is_met(m, key) for m in wanted)}

    def test_without_matchers_every_series_is_selected(self, storage):
        assert set(selected(storage, (), 0, T + 90_000)) == set(SERIES)

    def test_nothing_matches_in_an_empty_storage(self, open_storage):
        storage = open_storage({})

        assert selected(storage, [ALL], 0, T) == {}
        assert storage.count([ALL], 0, T) == (0, 0)
        assert storage.label_names([], 0, T) == []
        assert storage.label_values("job", [], 0, T) == []
        assert storage.series([], 0, T).labels() == []

    def test_a_malformed_regex_is_a_value_error(self, storage):
        with pytest.raises(ValueError, match="missing closing"):
            storage.select([Matcher("job", MatchOp.REGEX, "(")], 0, T, SelectHints())

    def test_stale_markers_and_nan_are_told_apart(self, open_storage):
        storage = open_storage({UP_A: [(T, float("nan")), (T + 1, None), (T + 2, 1.0)]})

        [points] = selected(storage, [ALL], T - 1, T + 2).values()

        assert points[1:] == [(T + 1, "stale"), (T + 2, 1.0)]
        assert np.isnan(points[0][1])

    @pytest.mark.parametrize(
        ("copies", "kept"),
        [
            ([1.0, 2.0], 2.0),
            ([2.0, -1.0, 1.0], 2.0),
            ([None, -5.0], -5.0),
            ([float("nan"), float("-inf")], float("-inf")),
            ([3.0, None, float("nan")], 3.0),
        ],
    )
    def test_of_copies_of_a_sample_the_greatest_is_selected(self, open_storage, copies, kept):
        storage = open_storage(*({UP_A: [(T, 1.0), (T + 5, value)]} for value in copies))

        assert selected(storage, [ALL], 0, T + 9) == {UP_A: [(T, 1.0), (T + 5, kept)]}

    def test_samples_that_come_late_lie_in_their_place(self, open_storage):
        storage = open_storage(
            {UP_A: [(T + 3, 3.0), (T + 9, 9.0)], UP_B: [(T + 4, 4.0)]},
            {UP_A: [(T + 1, 1.0), (T + 5, 5.0)]},
        )

        assert selected(storage, [ALL], T + 1, T + 9) == {
            UP_A: [(T + 3, 3.0), (T + 5, 5.0), (T + 9, 9.0)],
            UP_B: [(T + 4, 4.0)],
        }

    def test_series_without_samples_in_the_range_have_none_if_they_come(self, open_storage):
        storage = open_storage({UP_A: [(T, 1.0)], UP_B: [(T + 60_000, 1.0)], LOAD: []})

        found = selected(storage, [ALL], T - 1, T + 1000)

        assert with_samples(found) == {UP_A: [(T, 1.0)]}
        assert set(found) <= {UP_A, UP_B, LOAD}

    def test_the_count_is_not_below_what_is_selected(self, storage):
        for start, end in ((0, 1000), (1000, 2000), (0, 90_000), (70_000, 90_000)):
            found = with_samples(selected(storage, [ALL], T + start, T + end))
            series, samples = storage.count([ALL], T + start, T + end)

            assert len(found) <= series <= len(SERIES)
            assert sum(map(len, found.values())) <= samples

    def test_hints_do_not_change_what_is_selected(self, storage):
        expected = selected(storage, [ALL], T, T + 2000)

        for hints in (
            SelectHints("rate", 300_000, 60_000),
            SelectHints("sum", 0, 15_000, ("job",), by=True),
            SelectHints("last_over_time", 1, 0, ("nowhere",)),
        ):
            assert selected(storage, [ALL], T, T + 2000, hints) == expected

    @pytest.mark.parametrize("op", [MatchOp.REGEX, MatchOp.NOT_REGEX, MatchOp.NOT_EQUAL])
    def test_a_query_that_has_to_stop_stops_while_values_are_matched(self, storage, op):
        def stop():
            raise QueryCanceledError

        wanted = [Matcher("job", op, "no.+")]

        with pytest.raises(QueryCanceledError):
            storage.select(wanted, T, T + 1000, SelectHints(check=stop))
        with pytest.raises(QueryCanceledError):
            storage.count(wanted, T, T + 1000, stop)
        assert selected(storage, wanted, T, T + 1000) == selected(storage, wanted, T, T + 1000)

    def test_equal_selections_share_their_table(self, storage):
        first = storage.select(matchers("up"), T, T + 1, SelectHints())
        second = storage.select(matchers("up"), T + 5, T + 6, SelectHints("rate", 1, 1))

        assert first.labels is second.labels

    def test_label_names_are_those_of_series_that_a_list_matches(self, storage):
        everything = sorted({name for key in SERIES for name, _ in key})

        assert storage.label_names([], 0, T + 90_000) == everything
        assert storage.label_names([matchers("load")], 0, T + 90_000) == [
            *("__name__", "instance", "job")
        ]
        assert storage.label_names([matchers("load"), matchers("nothing")], 0, T + 90_000) == [
            *("__name__", "instance", "job")
        ]
        assert storage.label_names([matchers("load"), matchers("up")], 0, T + 90_000) == [
            *("__name__", "instance", "job", "zone")
        ]
        assert storage.label_names([matchers("nothing")], 0, T + 90_000) == []

    def test_label_values_are_distinct_and_sorted(self, storage):
        def values(name, *lists):
            return storage.label_values(name, lists, 0, T + 90_000)

        assert values("job") == ["node", "web"]
        assert values("__name__") == ["disk.free", "load", "up"]
        assert values("instance", matchers('{job="web"}')) == ["b"]
        assert values("instance", matchers('{job="web"}'), matchers("load")) == ["a", "b"]
        assert values("zone", matchers("load")) == []
        assert values("nowhere") == []

    def test_series_are_distinct_and_sorted(self, storage):
        def series(*lists):
            return storage.series(lists, 0, T + 90_000).labels()

        assert series() == sorted(SERIES)
        assert series(matchers("up")) == sorted([UP_A, UP_B])
        assert series(matchers('{instance="a"}'), matchers("up")) == sorted([UP_A, UP_B, LOAD])
        assert series(matchers("nothing"), matchers("nothing")) == []

    def test_it_may_be_asked_from_many_threads(self, storage):
        selectors = ["up", '{job=~"n.*"}', '{instance!~"b|"}', '{zone=~".*",__name__=~".+"}']
        lists = [matchers(text) for text in selectors]
        expected = [selected(storage, wanted, 0, T + 90_000) for wanted in lists]
        wrong = []

        def ask(first):
            wrong.extend(
                i % 4
                for i in range(first, first + 60)
                if selected(storage, lists[i % 4], 0, T + 90_000) != expected[i % 4]
            )

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert not wrong
        assert not any(thread.is_alive() for thread in threads)

    def test_the_engine_answers_from_it(self, open_storage):
        counters = {
            labels("c_total", job=job, i=str(i)): [
                (T + t * 1000, float(t * (i + 1))) for t in range(0, 600, 15)
            ]
            for i, job in enumerate("xxy")
        }
        engine = Engine(open_storage(counters, {LOAD: [(T + 590_000, 4.0), (T + 591_000, None)]}))

        found = vector(engine.instant("sum by (job) (rate(c_total[5m]))", T + 585_000))
        gone = vector(engine.instant("load", T + 591_000))

        assert {key: round(value, 9) for key, value in found.items()} == {
            (("job", "x"),): 3.0,
            (("job", "y"),): 3.0,
        }
        assert gone == {}
        assert vector(engine.instant("load", T + 590_999)) == {LOAD: 4.0}

    @pytest.mark.parametrize("seed", range(3))
    def test_any_selection_is_that_of_a_scan(self, open_storage, seed):
        r = Random(seed)
        batches = [random_batch(r) for _ in range(r.randrange(1, 5))]
        storage = open_storage(*batches)
        held = scan(batches)

        for _ in range(40):
            wanted = [random_matcher(r) for _ in range(r.randrange(4))]
            start = T + r.randrange(-10, 110)
            end = start + r.randrange(60)
            found = with_samples(selected(storage, wanted, start, end))
            expected = {
                key: [(t, v) for t, v in points if start < t <= end]
                for key, points in held.items()
                if all(is_met(m, key) for m in wanted)
            }
            assert found == with_samples(expected), (wanted, start, end)


def random_batch(r):
    names, values = ("a", "b", "c_total"), ("", "x", "y", "xy")
    return {
        labels(
            r.choice(names), **{n: v for n in "jk" if (v := r.choice(values))}
        ): [(T + r.randrange(100), r.choice((None, 0.0, 1.0, 2.5, -3.0))) for _ in range(20)]
        for _ in range(6)
    }  # fmt: skip


def random_matcher(r):
    op = r.choice(list(MatchOp))
    is_regex = op in (MatchOp.REGEX, MatchOp.NOT_REGEX)
    values = (".*", ".+", "x|y", "a|c.*", "", "x?") if is_regex else ("", "a", "b", "x", "y")
    return Matcher(r.choice(("__name__", "j", "k", "l")), op, r.choice(values))


def scan(batches):
    """All samples by series, of copies the greatest; a stale marker is below all."""
    held = {}
    for batch in batches:
        for key, points in batch.items():
            series = held.setdefault(key, {})
            for t, value in points:
                known = series.get(t)
                if t not in series or known is None or (value is not None and value > known):
                    series[t] = value
    return {
        key: [(t, "stale" if v is None else v) for t, v in sorted(series.items())]
        for key, series in held.items()
    }


def stored(value):
    """A value as columns hold it."""
    return STALE_NAN if value is None else value
