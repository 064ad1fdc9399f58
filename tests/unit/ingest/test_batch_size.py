from hypothesis import given
from hypothesis import strategies as st

from varve.ingest.batch_size import BatchLimits, BatchSize, count, halves
from varve.ingest.outcome import Outcome
from varve.kafka.partitions import OffsetRange, Partition

LIMITS = BatchLimits(messages=500_000, samples=10_000_000, bytes=2**28)
PARTITIONS = [Partition("t", "id", n) for n in range(6)]
ranges = st.dictionaries(
    st.sampled_from(PARTITIONS),
    st.builds(lambda a, n: OffsetRange(a, a + n), st.integers(0, 10**6), st.integers(1, 10**6)),
    min_size=1,
)


def batch(messages, *, samples, size):
    """What the tasks of a batch say whose messages hold so much each."""
    return [Outcome(messages=messages, received=messages * samples, expanded_bytes=messages * size)]


def grown(size, samples, message_bytes, batches=20):
    for _ in range(batches):
        size.observe(batch(size.messages, samples=samples, size=message_bytes))
    return size.messages


def test_single_objects_come_in_large_batches_and_long_messages_in_small_ones():
    assert BatchSize(LIMITS).messages == 10_000
    assert grown(BatchSize(LIMITS), 1, 150) == 500_000
    assert grown(BatchSize(LIMITS), 1_000, 28_000) == 2**28 // 28_000
    assert grown(BatchSize(LIMITS), 10_000, 100) == 1_000
    assert grown(BatchSize(LIMITS), 0, 8 * 2**20) == 32


def test_it_grows_in_steps_and_shrinks_at_once():
    size = BatchSize(LIMITS)
    steps = [size.messages]
    for _ in range(3):
        size.observe(batch(size.messages, samples=1, size=150))
        steps.append(size.messages)

    size.observe(batch(size.messages, samples=1, size=2**20))

    assert steps == [10_000, 40_000, 160_000, 500_000]
    assert size.messages == 256


def test_a_batch_that_was_short_for_lack_of_messages_leaves_the_size_as_it_was():
    size = BatchSize(LIMITS)
    grown(size, 1, 150)

    size.observe(batch(3, samples=1, size=150))
    size.observe([])
    size.observe([Outcome(messages=2, tombstones=2)])

    assert size.messages == 500_000


@given(ranges, st.integers(1, 10**6))
def test_batches_are_whole_ranges_in_order_with_something_of_every_partition(whole, most):
    size = BatchSize(BatchLimits(most, 1, 1))
    size.messages = most
    left, at = whole, {p: r.start for p, r in whole.items()}
    for _ in range(50):
        now, left = size.take(left)
        assert count(now) <= most + len(now)
        for partition, read in now.items():
            assert read.start == at[partition] < read.end
            at[partition] = read.end
        if not left:
            assert at == {p: r.end for p, r in whole.items()}
            break
        assert {p: r.start for p, r in left.items()} == {p: at[p] for p in left}


@given(ranges)
def test_halves_end_with_single_offsets(whole):
    while count(whole) > 1:
        first, second = halves(whole)
        assert count(first) + count(second) == count(whole)
        assert count(first) >= 1 <= count(second)
        whole = first
    assert count(whole) == 1
