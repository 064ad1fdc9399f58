"""The label index against a scan of every definition."""

from __future__ import annotations

import re
import threading
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.bench_labels import rows as pod_rows
from tests.unit.promql.test_interrupt import Recorder, no_pauses  # noqa: F401 - a fixture
from varve.model.identity import define
from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.model.schema import table_schema
from varve.promql import result_json
from varve.promql.labels import postings
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query import index_labels
from varve.query.memory import INDEX, MemoryBudget
from varve.query.series_index import COLUMNS, Among, IndexBuilder

names = st.sampled_from(["a", "b", "c"])
label_sets = st.dictionaries(names, st.sampled_from(["", "x", "y", "xy", "ü\n"]), max_size=3)
definitions = st.builds(define, st.sampled_from(["up", "down", "u"]), label_sets)
batches = st.lists(st.lists(definitions, min_size=1, max_size=6), max_size=4)
patterns = st.sampled_from(["x", "x?y?", ".*", ".+", "x|", "[^x]+", ""])
matchers = st.builds(
    Matcher,
    st.sampled_from(["a", "b", "c", "__name__", "absent"]),
    st.sampled_from([MatchOp.EQUAL, MatchOp.NOT_EQUAL]),
    st.sampled_from(["", "x", "up", "u", "nowhere"]),
) | st.builds(
    Matcher,
    st.sampled_from(["a", "b", "__name__", "absent"]),
    st.sampled_from([MatchOp.REGEX, MatchOp.NOT_REGEX]),
    patterns,
)


def rows(definitions):
    records = [
        {"series_id": d.series_id, "metric": d.metric, "tags": dict(d.tags)} for d in definitions
    ]
    schema = pa.schema([table_schema("series").arrow.field(name) for name in COLUMNS])
    return pa.Table.from_pylist(records, schema)


def built(batches, few=8):
    """The index of all batches, asked for after each; few: as of index_labels."""
    builder = IndexBuilder()
    with patch.object(index_labels, "_FEW", few):
        index = builder.index()
        for batch in batches:
            builder.add(rows(batch))
            index = builder.index()
    return index


@pytest.mark.usefixtures("no_pauses")
def test_whatever_is_asked_of_many_series_can_be_ended_soon():
    builder = IndexBuilder()
    builder.add(pod_rows(0, 60_000))
    index = builder.index()
    some = [Matcher("zone", MatchOp.EQUAL, "zone-1")]
    pods = [Matcher("pod", MatchOp.REGEX, "pod-[0-9]+")]
    result_json.label_sets(index.labels.take(np.arange(1_000)))  # which compiles its kernels

    def of(ask):
        recorder = Recorder()
        recorder.is_set()
        ask(recorder.is_set)
        recorder.is_set()
        assert recorder.asked > 3
        return recorder.longest_s

    assert of(lambda check: result_json.label_sets(index.find([], check).labels, check)) < 0.25
    assert of(lambda check: index.find_any([some, pods], check)) < 0.25
    assert of(lambda check: index.label_values("pod", [pods], check)) < 0.25
    assert of(lambda check: index.label_names([pods], check)) < 0.25


# A label is kept by row whatever it takes, or if few have it, or never.
kinds = st.sampled_from([0, 3, 1_000])


def labels_of(definition):
    return dict(definition.tags) | {"__name__": definition.metric}


def meets(labels, matcher):
    value = labels.get(matcher.name, "")
    if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
        met = value == matcher.value
    else:
        met = re.fullmatch(matcher.value, value, re.DOTALL) is not None
    return met == (matcher.op in (MatchOp.EQUAL, MatchOp.REGEX))


@given(batches, st.lists(matchers, max_size=3), kinds, st.integers(0, 2**24 - 1))
def test_matchers_find_the_series_that_a_scan_finds(batches, wanted, kind, some):
    index = built(batches, kind)
    rows = np.array([bool(some >> row & 1) for row in range(index.size)], dtype=np.bool_)
    found = index.find(wanted, among=None if some == 0 else Among(rows, b"%d" % some))

    everything = {d.series_id: labels_of(d) for batch in batches for d in batch}
    if some:
        chosen = index.series_ids[rows].tolist()
        everything = {i: labels for i, labels in everything.items() if i in chosen}
    expected = {i: la for i, la in everything.items() if all(meets(la, m) for m in wanted)}
    got = dict(zip(found.series_ids.tolist(), found.labels.dicts(), strict=True))
    assert got == expected
    ordered = [sorted(labels.items()) for labels in got.values()]
    assert ordered == sorted(ordered)
    by_id = found.series_ids[found.by_id].tolist()
    assert by_id == sorted(by_id)


@given(batches, kinds)
def test_names_and_values_are_those_of_the_series(batches, kind):
    index = built(batches, kind)

    everything = [labels_of(d) for batch in batches for d in batch]
    assert index.label_names([]) == sorted({name for labels in everything for name in labels})
    for name in ("a", "b", "__name__", "absent"):
        values = {labels[name] for labels in everything if name in labels}
        assert index.label_values(name, []) == sorted(values)


@given(batches, st.lists(matchers, max_size=2), kinds, st.integers(0, 2**24 - 1))
def test_what_is_remembered_of_an_index_is_true_of_the_next(batches, wanted, kind, some):
    """Some series of each batch come as it grows; among: rows that all of these indexes have."""
    builder, everything = IndexBuilder(), {}
    with patch.object(index_labels, "_FEW", kind), patch.object(postings, "_FEW_GROWN", some % 3):
        for batch in batches:
            builder.add(rows(batch))
            everything |= {d.series_id: labels_of(d) for d in batch}
            index = builder.index()
            found = index.find(wanted)
            expected = {i: la for i, la in everything.items() if all(meets(la, m) for m in wanted)}
            assert dict(zip(found.series_ids.tolist(), found.labels.dicts(), strict=True)) == (
                expected
            )
            assert found.series_ids[found.by_id].tolist() == sorted(expected)
            assert index.rows_of(index.series_ids).tolist() == list(range(index.size))


def test_a_selection_is_remembered_until_a_series_of_it_comes():
    builder = IndexBuilder()
    builder.add(rows([define("up", {"a": "x"}), define("down", {"a": "x"})]))
    up = [Matcher("__name__", MatchOp.EQUAL, "up")]
    rest = [Matcher("__name__", MatchOp.REGEX, "d.*")]
    few = Among(np.array([True, False]), b"some")
    first = builder.index()
    known, others, of_few = first.find(up), first.find(rest), first.find(up, among=few)

    builder.add(rows([define("down", {"a": "y"})]))
    second = builder.index()

    assert second.find(up) is known
    assert second.find(up, among=Among(np.array([True, False, False]), b"some")) is of_few
    assert second.find(rest) is not others
    assert second.find(rest).size == 2
    assert first.find(rest).size == 1


def test_regexes_that_nobody_asks_for_again_take_no_more_memory():
    index = built([[define("up", {"a": f"v{i}"}) for i in range(1000)]])
    before = index.nbytes
    with patch.object(index._postings, "_max_bytes", 10_000):
        for i in range(100):
            index.find([Matcher("a", MatchOp.REGEX, f"v{i}.*")])

        assert index._postings.nbytes <= 10_000
    assert index.nbytes == before


def test_an_index_taken_earlier_does_not_see_later_series():
    builder = IndexBuilder()
    builder.add(rows([define("up", {"a": "x"})]))
    earlier = builder.index()

    builder.add(rows([define("up", {"a": "y", "b": "z"})]))

    assert earlier.label_values("a", []) == ["x"]
    assert builder.index().label_values("a", []) == ["x", "y"]


def test_a_malformed_regex_is_refused():
    with pytest.raises(ValueError, match="error parsing regexp"):
        built([[define("up", {"a": "x"})]]).find([Matcher("a", MatchOp.REGEX, "(")])


@pytest.mark.parametrize("op", [MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX])
def test_an_index_taken_earlier_takes_a_value_that_is_new_since_for_unknown(op):
    builder = IndexBuilder()
    builder.add(rows([define("up", {"a": "x"}), define("up", {"a": "xx"})]))
    earlier = builder.index()
    known = earlier.find([Matcher("a", MatchOp.EQUAL, "x")])  # its postings are made

    builder.add(rows([define("down", {"a": "y"})]))

    for matcher in (Matcher("a", op, "y"), Matcher("__name__", op, "down")):
        assert earlier.find([matcher]).size == (2 if op is MatchOp.NOT_EQUAL else 0)
    assert earlier.find([Matcher("a", MatchOp.EQUAL, "x")]) is known
    assert builder.index().find([Matcher("a", MatchOp.EQUAL, "y")]).size == 1


def test_queries_are_answered_while_the_index_grows():
    """Threads look values up as they are added; none meets half of an addition."""
    builder = IndexBuilder()
    builder.add(rows([define("up", {"a": "v0"})]))
    current = [builder.index()]
    failures, done = [], threading.Event()

    def ask():
        while not done.is_set():
            index = current[0]
            for k in range(0, 60, 7):
                try:
                    found = index.find([Matcher("a", MatchOp.EQUAL, f"v{k}")])
                    assert found.size == (index.size > k)
                    found.labels.labels()
                except (IndexError, KeyError, AssertionError) as err:
                    failures.append(err)
                    return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for k in range(1, 60):
        builder.add(rows([define("up", {"a": f"v{k}"})]))
        current[0] = builder.index()
    done.set()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_slow_regex_keeps_no_other_query_waiting():
    builder = IndexBuilder()
    builder.add(rows([define("up", {"a": f"value-{k}"}) for k in range(100_000)]))
    index = builder.index()
    index.find([Matcher("a", MatchOp.EQUAL, "value-1")])
    slow = threading.Thread(
        target=lambda: index.find([Matcher("a", MatchOp.REGEX, "(.*(a|b|c).*){3}[x-z]{9}")])
    )

    slow.start()
    index.find([Matcher("a", MatchOp.EQUAL, "value-2")])
    was_first = slow.is_alive()
    slow.join()

    assert was_first


said = st.tuples(
    st.sampled_from(["up", "down"]),
    st.sampled_from([None, "", "unknown", "gauge", "counter"]),
    st.sampled_from([None, "", "seconds"]),
    st.sampled_from([None, "", "unknown", "some text"]),
)


@given(st.lists(st.lists(said, max_size=5), max_size=3))
def test_a_metric_is_what_the_first_producer_said_that_said_anything(batches):
    builder, expected, number = IndexBuilder(), {}, 0
    for batch in batches:
        records = []
        for metric, type_, unit, text in batch:
            number += 1
            named = {"series_id": number, "metric": metric, "tags": {"a": str(number)}}
            records.append({**named, "type": type_, "unit": unit, "help": text})
            if expected.get(metric, NOTHING_KNOWN) == NOTHING_KNOWN:
                expected[metric] = Metadata(type_ or "unknown", unit or "", text or "")
        schema = pa.schema([table_schema("series").arrow.field(name) for name in COLUMNS])
        builder.add(pa.Table.from_pylist(records, schema))
    assert builder.index().metadata == expected


def test_a_label_that_few_series_have_takes_memory_in_proportion_to_those():
    index = built([[define("up", {f"label_{i}": "x"}) for i in range(1_000)]])

    held = sum(column.codes.nbytes for column in index.labels.columns.values())

    assert held < 100 * 1_000


def test_what_the_index_takes_is_counted_dense_columns_included():
    budget = MemoryBudget(1 << 40)
    builder = IndexBuilder(budget)
    for n in (10, 200):
        builder.add(rows([define("up", {f"label_{i}": f"{n}"}) for i in range(n)]))
        index = builder.index()

        held = sum(column.codes.nbytes for column in index.labels.columns.values())
        assert budget.used[INDEX] == index.nbytes > held
