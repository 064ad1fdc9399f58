import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.promql.differential import by_series, engine_over, outcome
from tests.unit.promql.random_queries import ALL, SPAN_MS, Generator, random_data, seeded
from varve.promql import errors
from varve.promql.evaluation import kernel_blocks
from varve.promql.evaluation.kernel_blocks import BLOCK_SAMPLES, Work, run_in_blocks, slices
from varve.promql.evaluation.limits import Budget, Limits
from varve.promql.interrupt import Interrupt
from varve.promql.storage import Samples

QUERIES = 400


def samples_of(lengths):
    ends = np.cumsum(np.array(lengths, dtype=np.int64))
    total = int(ends[-1]) if lengths else 0
    return Samples(
        np.arange(total),
        np.ones(total),
        ends - np.array(lengths, dtype=np.int64),
        ends,
        np.zeros(len(lengths), dtype=np.bool_),
    )


@given(
    st.lists(st.integers(0, 3_000_000), max_size=8),
    st.integers(1, 3000),
    st.integers(1, 10**9),
    st.integers(0, 10**9),
)
def test_blocks_cover_every_row_and_step_once_and_are_bounded(lengths, steps, range_ms, span_ms):
    samples = samples_of(lengths[:0])
    held = np.array(lengths, dtype=np.int64)
    samples = Samples(samples.ts, samples.values, held * 0, held, held > 0)
    work = Work(samples, range_ms, span_ms, steps)
    share = range_ms / (range_ms + span_ms)
    calls = []

    def kernel(some, part, values, present):
        rows = some.rows
        assert values.shape == present.shape == (rows.stop - rows.start, part.stop - part.start)
        cost = (held[rows] * share + 1) * (part.stop - part.start)
        if part.stop - part.start > 1:
            assert cost.sum() <= 2 * BLOCK_SAMPLES + 1
        values += 1
        present[:] = True
        calls.append(cost.sum())
        return 1

    values = np.zeros((len(lengths), steps))
    present = np.zeros(values.shape, dtype=np.bool_)
    touched = run_in_blocks(Budget(Limits()), work, values, present, kernel)

    assert touched == len(calls)
    assert present.all()
    assert work.is_small is bool(sum(calls) <= BLOCK_SAMPLES)


@pytest.mark.parametrize(("count", "size"), [(0, 5), (1, 10**9), (10, 10**6), (10**6, 100)])
def test_slices_cover_everything_once(count, size):
    parts = list(slices(count, size))

    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == count
    assert all((p.stop - p.start) * size <= max(size, BLOCK_SAMPLES) for p in parts)


def test_a_long_kernel_can_be_ended_between_blocks():
    now = [0.0]
    budget = Budget(Limits(), Interrupt(10.0, monotonic=lambda: now[0]).check)
    blocks = []

    def kernel(some, part, values, _present):
        blocks.append((some.rows, part))
        now[0] += 4.0
        values[:] = 0.0
        return 1

    shape = (1, 10_000)
    work = Work(samples_of([10**6]), 10**6, 10**6, shape[1])
    with pytest.raises(errors.QueryTimeoutError):
        run_in_blocks(budget, work, np.zeros(shape), np.zeros(shape, bool), kernel)

    one = slice(0, 1)
    assert blocks == [(one, slice(0, 7)), (one, slice(7, 14)), (one, slice(14, 21))]


def test_blocks_give_what_one_call_gives(monkeypatch):
    r = seeded(3)
    generator = Generator(r, dict.fromkeys(ALL, 0))
    for i in range(QUERIES):
        if i % 50 == 0:
            engine = engine_over(random_data(r))
        query = generator.query()
        start, step = r.randrange(SPAN_MS), r.choice((15_000, 60_000))
        times = start, start + step * r.choice((0, 5, 17)), step

        whole = answer(engine, query, times)
        with monkeypatch.context() as patch:
            patch.setattr(kernel_blocks, "BLOCK_SAMPLES", r.choice((1, 7, 40, 300)))
            cut = answer(engine, query, times)

        assert repr(cut) == repr(whole), query


def answer(engine, query, times):
    return outcome(lambda: by_series(engine.range(query, *times)))
