import threading

import numpy as np
import pytest

from varve.promql.labels.label_table import Column, Interned, LabelTable, size_of
from varve.promql.labels.postings import Postings
from varve.promql.syntax.ast import Matcher, MatchOp

ROWS = 20_000
WAIT_S = 30


def equal(name, value):
    return Matcher(name, MatchOp.EQUAL, value)


def regex(name, value):
    return Matcher(name, MatchOp.REGEX, value)


def growing(count):
    """A table of `count` rows, and the interned values that its writer goes on adding to."""
    interned = Interned(f"v{i}" for i in range(count))
    codes = np.arange(1, count + 1, dtype=np.int32)
    return LabelTable(count, {"x": Column(codes, interned)}), interned


@pytest.mark.parametrize("asked_before", [True, False])
def test_a_value_that_is_interned_later_has_no_rows(asked_before):
    table, interned = growing(5)
    postings = Postings(table)
    if asked_before:
        postings.find([equal("x", "v3")])
    interned.code("later")

    assert postings.find([equal("x", "later")])[0].tolist() == []
    assert postings.find([equal("x", "v3"), regex("x", "l.*|v3")])[0].tolist() == [3]
    assert postings.find([Matcher("x", MatchOp.NOT_EQUAL, "later")])[0].tolist() == list(range(5))
    assert postings.find([equal("x", "never")])[0].tolist() == []


def test_it_is_asked_while_values_are_interned():
    table, interned = growing(200)
    postings = Postings(table)
    stop, wrong = threading.Event(), []

    def ask(seed):
        i = seed
        while not stop.is_set():
            i += 1
            for matcher in (equal("x", f"v{i % 400}"), regex("x", f"v{i % 400}|w{i}")):
                rows = postings.find([matcher])[0].tolist()
                if rows != ([i % 400] if i % 400 < 200 else []):
                    wrong.append((matcher, rows))

    readers = [threading.Thread(target=ask, args=(seed,)) for seed in (0, 100, 250)]
    for reader in readers:
        reader.start()
    for i in range(200, ROWS):
        interned.code(f"v{i}")
    stop.set()
    for reader in readers:
        reader.join(WAIT_S)

    assert not wrong
    assert not any(reader.is_alive() for reader in readers)


def test_a_regex_is_matched_while_no_lock_is_held():
    table, _ = growing(10)
    postings = Postings(table)
    matching, go_on = threading.Event(), threading.Event()
    found = []

    def wait():
        matching.set()
        assert go_on.wait(WAIT_S)

    slow = threading.Thread(target=lambda: found.append(postings.find([regex("x", "v[12]")], wait)))
    slow.start()
    assert matching.wait(WAIT_S)

    others = [
        postings.find([matcher])[0].tolist() for matcher in (equal("x", "v4"), regex("x", "v5"))
    ]
    go_on.set()
    slow.join(WAIT_S)

    assert others == [[4], [5]]
    assert found[0][0].tolist() == [1, 2]


def test_selections_are_kept_within_a_bound_of_bytes():
    table, _ = growing(ROWS)
    a_selection = ROWS * (8 + 4)
    postings = Postings(table, max_bytes=5 * a_selection)
    patterns = [f"v[^{i}]+" for i in range(10)] * 2

    kept = [postings.find([regex("x", pattern)])[1] for pattern in patterns]

    # The postings of no label are needed for regexes, so all of this is selections.
    assert 0 < postings.nbytes <= 5 * a_selection
    assert postings.find([regex("x", patterns[-1])])[1] is kept[-1]
    assert postings.find([regex("x", patterns[0])])[1] is not kept[0]


def test_what_is_computed_of_a_selection_counts_with_it():
    table, _ = growing(ROWS)
    postings = Postings(table)
    _, selected = postings.find([regex("x", "v1.*")])
    before = postings.nbytes

    selected.labels()
    selected.cached("samples", lambda: (np.zeros(1000), np.zeros(500)))

    assert postings.nbytes - before > 12_000 + selected.size * 50


def test_a_table_forgets_what_it_cached_past_its_bound():
    table = LabelTable.of([{"x": "1"}])
    made = []

    for i in range(40):
        table.cached(i, lambda i=i: made.append(i) or np.zeros(1 << 17))  # a MiB each

    assert table.nbytes < 20 << 20
    table.cached(39, lambda: made.append("again"))
    table.cached(0, lambda: made.append("anew"))
    assert made == [*range(40), "anew"]


@pytest.mark.parametrize(
    ("value", "least"),
    [
        (np.zeros(100), 800),
        (b"x" * 500, 500),
        ([np.zeros(10)] * 50, 4000),
        ((np.zeros(10), {"not": "known"}), 80),
        (Column(np.zeros(25, np.int32), Interned()), 100),
        ([(("a", "b"), ("c", "d"))] * 1000, 100_000),
    ],
)
def test_sizes_are_not_below_what_arrays_take(value, least):
    assert least <= size_of(value) < 10 * least


def test_interned_values_are_counted():
    interned = Interned(["a" * 100, "b"])

    assert 101 <= interned.nbytes <= 1000
    before = interned.nbytes
    interned.code("b")
    assert interned.nbytes == before
