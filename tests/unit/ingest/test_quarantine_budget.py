"""How much of rejects is kept while there are many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.ingest.quarantine_budget import BURST, REFILL, REFILL_MS, QuarantineBudget

BOUND = 80 * 2**20
MOST = 8 * 2**20
HOUR_MS = 3_600_000


def test_a_query_that_refuses_little_keeps_all_that_a_batch_may(caplog):
    budget = QuarantineBudget("bulk", 100 * BOUND, 0, 0)
    for minute in range(60):
        assert budget.per_partition(MOST, 4, minute * 60_000) == MOST
        budget.spend(10_000)

    assert not caplog.records


def test_a_flood_keeps_less_says_so_once_and_all_again_when_it_is_over(caplog):
    budget = QuarantineBudget("bulk", BOUND, 0, 0)
    with caplog.at_level("INFO"):
        for _ in range(100):
            budget.spend(budget.per_partition(MOST, 1, 1_000))
        assert budget.per_partition(MOST, 1, 1_000) == 0
        assert caplog.text.count("quarantine keeps less of it") == 1
        assert budget.per_partition(2**20, 1, 3 * HOUR_MS) == 2**20

    assert caplog.text.count("keeps all of ingest.reject_bytes again") == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 4 * HOUR_MS), st.integers(1, 16), st.floats(0, 1), st.booleans()),
        max_size=200,
    )
)
def test_what_is_written_in_any_time_is_bounded(steps):
    """Whatever comes when: the clock may step back as well."""
    now_ms, budget = 10 * HOUR_MS, QuarantineBudget("bulk", BOUND, 0, 10 * HOUR_MS)
    passed_ms = written = 0
    for wait_ms, partitions, part, back in steps:
        now_ms += -wait_ms if back else wait_ms
        passed_ms += 0 if back else wait_ms
        most = budget.per_partition(MOST, partitions, now_ms)
        assert 0 <= most <= MOST
        # Twice: of small rejects, and of large ones.
        size = int(2 * partitions * most * part)
        budget.spend(size)
        written += size

    assert written <= BOUND / BURST + passed_ms * BOUND / REFILL / REFILL_MS + 1


@pytest.mark.parametrize("written", [0, BOUND // 16, BOUND])
def test_what_was_written_before_the_start_counts(written):
    budget = QuarantineBudget("bulk", BOUND, written, 0)

    assert budget.per_partition(BOUND, 1, 0) == max(0, BOUND // 8 - written) // 2
