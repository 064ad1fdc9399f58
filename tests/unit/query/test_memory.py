"""One budget: what is held is counted, caches make room, what does not fit is refused."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.promql.errors import LimitError
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.memory import (
    HEAD,
    INDEX,
    QUERIES,
    ROW_GROUPS,
    SELECTIONS,
    MemoryBudget,
    Reservation,
)  # fmt: skip
from varve.query.selection_cache import SelectionCache


@dataclass(frozen=True)
class Selection:
    nbytes: int


def key(name):
    return (Matcher("a", MatchOp.EQUAL, name),)


def test_a_query_gives_back_what_it_took():
    budget = MemoryBudget(100)

    with Reservation(budget) as memory:
        memory.take(40)
        memory.take(60)
        assert budget.used[QUERIES] == 100
        memory.give_back(30)
        assert budget.used[QUERIES] == 70

    assert budget.used[QUERIES] == 0
    memory.release()
    assert budget.used[QUERIES] == 0


def test_what_does_not_fit_is_refused_with_the_setting_and_takes_nothing():
    budget = MemoryBudget(64 << 20)
    budget.add(INDEX, 16 << 20)
    budget.add(HEAD, 8 << 20)

    with Reservation(budget) as memory:
        memory.take(40 << 20)
        with pytest.raises(
            LimitError, match=r"needs 1\.0 MiB more where 0\.0 MiB .*memory_mb = 64"
        ):
            memory.take(1 << 20)

        assert budget.used[QUERIES] == 40 << 20


def test_what_never_fits_leaves_the_caches_as_they_are():
    budget = MemoryBudget(100)
    budget.add(HEAD, 50)
    selections = SelectionCache(budget)
    generation = selections.replace_index()
    kept = selections.put(generation, key("a"), Selection(20))

    with Reservation(budget) as memory, pytest.raises(LimitError):
        memory.take(51)

    assert selections.get(generation, key("a")) is kept


def test_caches_make_room_and_only_as_much_as_is_needed():
    budget = MemoryBudget(100)
    selections = SelectionCache(budget)
    generation = selections.replace_index()
    for i in range(5):
        selections.put(generation, key(f"{i}"), Selection(5))
    budget.add(ROW_GROUPS, 70)
    freed = []

    def shrink(nbytes):
        freed.append(nbytes)
        budget.add(ROW_GROUPS, -nbytes)
        return nbytes

    budget.add_cache(shrink)

    with Reservation(budget) as memory:
        memory.take(12)

        assert budget.used[SELECTIONS] == 15
        assert [selections.get(generation, key(f"{i}")) is None for i in range(5)] == [
            True, True, False, False, False,
        ]  # fmt: skip
        assert freed == []
        memory.take(50)
        assert budget.used[SELECTIONS] == 0
        assert freed == [32]
        assert sum(budget.used.values()) == 100


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "new", "take", "give"]), st.integers(0, 60)),
        max_size=60,
    )
)
def test_whatever_happens_no_more_is_held_than_there_may_be(steps):
    budget = MemoryBudget(200)
    selections = SelectionCache(budget)
    generation = selections.replace_index()
    held = {}

    with Reservation(budget) as memory:
        for what, n in steps:
            if what == "put":
                held[n] = selections.put(generation, key(f"{n}"), Selection(n))
            elif what == "get":
                assert selections.get(generation, key(f"{n}")) in (None, held.get(n))
            elif what == "new":
                generation = selections.replace_index()
                held.clear()
            elif what == "take":
                try:
                    memory.take(n)
                except LimitError:
                    assert memory.nbytes + n > 200
            else:
                memory.give_back(min(n, memory.nbytes))
            assert budget.used[SELECTIONS] <= 50
            assert sum(budget.used.values()) <= 200 + 50
            assert budget.used[QUERIES] == memory.nbytes <= 200
    assert budget.used[QUERIES] == 0


def test_queries_that_want_the_same_share_one_selection():
    selections = SelectionCache(MemoryBudget(1_000))
    generation = selections.replace_index()
    first, second = Selection(10), Selection(10)

    assert selections.put(generation, key("x"), first) is first
    assert selections.put(generation, key("x"), second) is first
    assert selections.get(generation, key("x")) is first


@pytest.mark.parametrize("nbytes", [0, 1, 100])
def test_what_was_selected_from_an_index_that_is_replaced_is_not_found(nbytes):
    selections = SelectionCache(MemoryBudget(1_000))
    before = selections.replace_index()
    selections.put(before, key("x"), Selection(nbytes))

    after = selections.replace_index()
    late = selections.put(before, key("y"), Selection(nbytes))

    assert late.nbytes == nbytes
    for generation in (before, after):
        assert selections.get(generation, key("x")) is None
        assert selections.get(generation, key("y")) is None


def test_threads_count_right():
    budget = MemoryBudget(1 << 40)

    def work():
        for _ in range(500):
            with Reservation(budget) as memory:
                memory.take(7)
                memory.give_back(3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert budget.used[QUERIES] == 0
