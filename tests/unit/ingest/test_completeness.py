from hypothesis import given
from hypothesis import strategies as st

from varve.ingest.completeness import MAX_NOTES, Completeness
from varve.kafka.partitions import Partition

ONE, TWO = Partition("t", "id", 0), Partition("t", "id", 1)


def test_a_time_is_reached_when_all_partitions_are_stored_up_to_their_ends():
    notes = Completeness()
    notes.note(1_000, {ONE: 5, TWO: 3})

    assert notes.reached({ONE: 5, TWO: 2}) is None
    assert notes.reached({ONE: 5, TWO: 3}) == 1_000


def test_the_latest_of_the_times_reached_counts_and_each_counts_once():
    notes = Completeness()
    for n in range(3):
        notes.note(n, {ONE: n})

    assert notes.reached({ONE: 1}) == 1
    assert notes.reached({ONE: 1}) is None


def test_a_partition_nobody_has_read_holds_it_back_unless_it_is_empty():
    notes = Completeness()
    notes.note(1, {ONE: 0, TWO: 0})
    notes.note(2, {ONE: 0, TWO: 1})

    assert notes.reached({ONE: 0}) == 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=400))
def test_memory_is_bounded_and_only_what_is_stored_is_complete(grown):
    notes, end = Completeness(), 0
    ends = []
    for at, growth in enumerate(grown):
        end += growth
        ends.append(end)
        notes.note(at, {ONE: end})
        assert len(notes._notes) <= MAX_NOTES

    for position in range(end + 1):
        reached = notes.reached({ONE: position})
        assert reached is None or ends[reached] <= position
