import itertools
import math
import random

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from varve.model import copies
from varve.model.staleness import NORMAL_NAN, STALE_NAN, canonicalise, is_stale

values = st.one_of(
    st.just(STALE_NAN),
    st.just(NORMAL_NAN),
    st.sampled_from([0.0, math.inf, -math.inf, 5e-324, -5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
)
samples = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(-(2**62), 2**62) | st.integers(0, 3), values),
    max_size=60,
)


def _columns(rows):
    ids = np.array([r[0] for r in rows], np.int64)
    ts = np.array([r[1] for r in rows], np.int64)
    column = np.array([0.0] * len(rows))
    for i, row in enumerate(rows):  # keeps the bits of NaN, as arithmetic would not
        column[i : i + 1] = row[2]
    return ids, ts, canonicalise(column)


def _bits(rows):
    ids, ts, column = _columns(rows)
    chosen = copies.order(ids, ts, column)
    return [*zip(ids[chosen], ts[chosen], column[chosen].view(np.int64), strict=True)]


@given(samples)
def test_samples_come_sorted_and_each_once(rows):
    keys = [row[:2] for row in _bits(rows)]

    assert keys == sorted({row[:2] for row in rows})


@given(samples, st.randoms())
def test_the_same_sample_wins_in_any_order_of_arrival(rows, chance):
    shuffled = rows.copy()
    chance.shuffle(shuffled)

    assert _bits(shuffled) == _bits(rows)


@given(samples)
def test_a_sample_that_is_already_there_changes_nothing(rows):
    assert _bits(rows + rows) == _bits(rows)


@given(samples)
def test_the_winner_is_that_of_the_rule_in_sql(rows):
    ids, ts, column = _columns(rows)
    present = [None if s else v for v, s in zip(column, is_stale(column), strict=True)]
    frame = pa.table({"series_id": ids, "ts": ts, "value": pa.array(present, pa.float64())})
    query = """
        SELECT series_id, ts, value FROM frame
        QUALIFY row_number() OVER (
            PARTITION BY series_id, ts
            ORDER BY value IS NOT NULL DESC, coalesce(NOT isnan(value), FALSE) DESC, value DESC
        ) = 1
        ORDER BY series_id, ts
    """
    won = []
    for series_id, at, bits in _bits(rows):
        value = np.array([bits]).view(np.float64)
        won.append((series_id, at, None if is_stale(value)[0] else str(value[0])))

    with duckdb.connect() as connection:
        connection.register("frame", frame)
        expected = connection.execute(query).fetchall()

    assert won == [(i, t, None if v is None else str(np.float64(v))) for i, t, v in expected]


def test_a_number_beats_nan_and_nan_beats_a_stale_marker():
    ordered = np.array([STALE_NAN, NORMAL_NAN, -math.inf, -1.0, -5e-324, 0.0, 5e-324, math.inf])

    for lesser, greater in itertools.pairwise(ordered):
        pair = np.array([greater, lesser])
        chosen = copies.order(np.zeros(2, np.int64), np.zeros(2, np.int64), pair)
        assert chosen.tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=50))
def test_series_are_numbered_by_id_and_check(rows):
    ids = np.array([r[0] for r in rows], np.int64)
    checks = np.array([r[1] for r in rows], np.int32)

    codes, first = copies.group(ids, checks)

    assert [rows[i] for i in first[codes]] == rows
    assert len(first) == len(set(rows))


def test_many_series_are_told_apart():
    chance = random.Random(7)
    ids = np.array([chance.getrandbits(63) for _ in range(20_000)] * 2, np.int64)

    codes, first = copies.group(ids)

    assert len(first) == 20_000
    assert (ids[first[codes]] == ids).all()


def test_a_million_series_at_once_take_room_for_a_million():
    ids = np.arange(1_100_000, dtype=np.int64) * 0x5DEECE66D

    codes, first = copies.group(ids)

    assert (codes == np.arange(len(ids))).all()
    assert (first == np.arange(len(ids))).all()


def test_a_series_that_came_out_of_order_is_sorted():
    ts = np.array([5, 3, 4, 3, 1], np.int64)

    chosen = copies.order(np.zeros(5, np.int64), ts, np.arange(5.0))

    assert chosen.tolist() == [4, 3, 2, 0]


@given(samples)
def test_arranging_columns_gives_what_ordering_them_gives(rows):
    ids, ts, column = _columns(rows)

    arranged = copies.arranged(ids, ts, column, copies.group(ids))

    bits = arranged[2].view(np.int64)
    assert [*zip(arranged[0], arranged[1], bits, strict=True)] == _bits(rows)


@given(st.lists(st.integers(0, 5), max_size=9), st.lists(st.integers(0, 40), max_size=9))
def test_series_that_come_in_turns_are_told_apart_whatever_interrupts_them(turn, interruptions):
    found = []
    for interruption in interruptions:
        found += [*turn, interruption]
    ids = np.array(found, np.int64)

    codes, first = copies.group(ids)

    assert (ids[first[codes]] == ids).all()
    assert len(first) == len(set(found))


@given(samples)
def test_merging_runs_gives_what_ordering_gives(rows):
    ids, ts, column = _columns(rows)

    merged = copies.merge(ids, ts, column)

    assert [*zip(*merged[:2], merged[2].view(np.int64), strict=True)] == _bits(rows)


@given(samples, samples)
def test_two_runs_merge_to_what_all_their_samples_give(left, right):
    a, b = (copies.merge(*_columns(rows)) for rows in (left, right))
    room = len(a[0]) + len(b[0])
    ids, ts, column = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)

    kept = copies.merge_two(*a, *b, ids, ts, column)

    merged = zip(ids[:kept], ts[:kept], column[:kept].view(np.int64), strict=True)
    assert [*merged] == _bits(left + right)


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), values), max_size=9), max_size=5))
def test_series_that_lie_side_by_side_are_settled_in_place(series):
    rows = [(i, ts, value) for i, own in enumerate(series) for ts, value in own]
    _, ts, column = _columns(rows)
    ends = np.cumsum([len(own) for own in series], dtype=np.int64)
    begins = ends - np.array([len(own) for own in series], np.int64)

    copies.settle(ts, column, begins, ends)

    settled = [
        (i, ts[k], column.view(np.int64)[k])
        for i in range(len(series))
        for k in range(begins[i], ends[i])
    ]
    assert settled == _bits(rows)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_of_rows_with_ranks_the_first_of_the_greatest_counts(rows):
    ids, ts, ranks = (np.array([row[k] for row in rows], np.int64) for k in range(3))

    _, _, index = copies.merge_runs(ids, ts, np.arange(len(rows)), ranks)

    first = {}
    for i, row in enumerate(rows):
        if row[:2] not in first or row[2] > rows[first[row[:2]]][2]:
            first[row[:2]] = i
    assert index.tolist() == [first[key] for key in sorted(first)]
