import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.client.collector import MetricsCollector
from varve.model.clock import ManualClock
from varve.model.errors import BadRequest

NOW_MS = 1_700_000_000_000

records = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["", "x", "y"]),
        st.integers(NOW_MS - 30_000, NOW_MS),
        st.integers(-(2**40), 2**40).map(float) | st.just(math.nan),
    ),
    max_size=60,
)


def _collector(rows=(), **options):
    collector = MetricsCollector(clock=ManualClock(NOW_MS), **options)
    for name, tag, ts_ms, value in rows:
        collector.record(name, value, {"t": tag}, ts_ms)
    return collector


def _frame(rows):
    """One value a (series, ts): the greatest, a number before NaN."""
    frame = pd.DataFrame(rows, columns=["metric", "t", "ts", "value"])
    frame["value"] = frame["value"].astype(float)
    return frame.groupby(["metric", "t", "ts"], as_index=False).agg({"value": "max"})


@given(records, st.integers(0, 30_000), st.integers(0, 30_000))
def test_a_query_is_what_pandas_selects(rows, start, end):
    start_ms, end_ms = NOW_MS - 30_000 + start, NOW_MS - 30_000 + end

    found = _collector(rows).query("a", where={"t": "x"}, start_ms=start_ms, end_ms=end_ms)

    frame = _frame(rows)
    wanted = frame[
        (frame.metric == "a") & (frame.t == "x") & (frame.ts > start_ms) & (frame.ts <= end_ms)
    ].sort_values("ts")
    assert found["ts"].to_pylist() == wanted["ts"].tolist()
    assert np.array_equal(found["value"].to_numpy(), wanted["value"].to_numpy(), equal_nan=True)


@given(records, st.sampled_from([0.001, 1, 7, 60]), st.sampled_from([None, (), ("t",)]))
def test_windows_are_those_of_pandas(rows, window_s, by):
    width_ms = round(window_s * 1000)

    found = _collector(rows).aggregate("a", window_s=window_s, by=by, percentiles=(0, 50, 99.9))

    frame = _frame(rows)
    frame = frame[(frame.metric == "a") & frame.value.notna()].copy()
    if by == ():
        frame["t"] = ""
    frame["end"] = -(-frame["ts"] // width_ms) * width_ms
    expected = {
        (tag, end): [
            len(values),
            values.sum(),
            values.min(),
            values.max(),
            values.mean(),
            *values.quantile([0, 0.5, 0.999]),
        ]
        for (tag, end), values in frame.groupby(["t", "end"])["value"]
    }
    got = {
        (dict(row["tags"]).get("t", ""), row["window_end"]): [
            row[c] for c in ("count", "sum", "min", "max", "avg", "p0", "p50", "p99.9")
        ]
        for row in found.to_pylist()
    }
    assert got.keys() == expected.keys()
    for key, values in expected.items():
        # Whole numbers: sums are exact. Interpolation may differ in its last bits.
        assert got[key][:5] == values[:5]
        assert got[key][5:] == pytest.approx(values[5:], rel=1e-9, abs=1e-3)


def test_a_window_is_left_open_and_its_end_a_multiple_of_its_width():
    collector = _collector([("a", "", NOW_MS - 60_000, 1.0), ("a", "", NOW_MS - 59_999, 2.0)])

    found = collector.aggregate("a", window_s=10)

    # 1,700,000,000 s is a multiple of 10 s.
    assert found["window_end"].to_pylist() == [NOW_MS - 60_000, NOW_MS - 50_000]
    assert found["sum"].to_pylist() == [1.0, 2.0]


def test_labels_match_by_value_by_expression_and_by_their_absence():
    rows = [("a", t, NOW_MS, n) for n, t in enumerate(["", "x", "xy", "yx"])]
    collector = _collector(rows)

    def values(**options):
        return sorted(collector.query("a", **options)["value"].to_pylist())

    assert values(where={"t": "x"}) == [1]
    assert values(where={"t": re.compile("x.*")}) == [1, 2]
    assert values(where={"t": ""}) == [0]
    assert values(without={"t": ""}) == [1, 2, 3]
    assert values(without={"t": re.compile("x|y.")}) == [0, 2]
    assert values(where={"other": ""}) == [0, 1, 2, 3]


def test_infinities_are_values_too():
    collector = _collector(
        [("a", "", NOW_MS - n, v) for n, v in enumerate([math.inf, math.inf, 1])]
    )

    (row,) = collector.aggregate("a", window_s=60, percentiles=(0, 75, 100)).to_pylist()

    assert (row["p0"], row["p75"], row["p100"], row["max"]) == (1, math.inf, math.inf, math.inf)


def test_what_is_older_than_retention_is_gone():
    clock = ManualClock(NOW_MS)
    collector = MetricsCollector(retention_s=10, clock=clock)
    collector.record("a", 1.0)
    clock.advance(9_999)
    collector.record("a", 2.0)
    assert collector.query("a")["value"].to_pylist() == [1.0, 2.0]

    clock.advance(1)

    assert collector.query("a")["value"].to_pylist() == [2.0]


@given(st.integers(1, 40), st.lists(st.integers(0, 1_000), max_size=120))
def test_memory_is_bounded_and_the_oldest_go_first(max_samples, stamps):
    collector = _collector(max_samples=max_samples)
    for n, stamp in enumerate(stamps):
        collector.record("a", n, {"n": str(n)}, NOW_MS - stamp)
        assert len(collector) <= max_samples

    assert len(collector) + collector.dropped == len(stamps)
    assert len(collector) >= min(len(stamps), int(max_samples * 7 / 8))
    # Series without samples are forgotten when room is made.
    assert len(collector._labels) <= max_samples
    kept = collector.query()
    assert [dict(t)["n"] for t in kept["tags"].to_pylist()] == [
        str(int(v)) for v in kept["value"].to_pylist()
    ]


def test_a_hot_series_that_never_expires_does_not_slow_down_to_a_look_a_sample():
    collector = _collector(max_samples=1_024)
    rooms = []
    make_room = collector._make_room
    collector._make_room = lambda: rooms.append(1) or make_room()

    for n in range(10_240):
        collector.record("a", n, None, NOW_MS + n)

    assert len(rooms) < 100
    assert collector.query()["value"].to_pylist()[-1] == 10_239


def test_frames_have_times_and_a_column_a_label():
    collector = _collector([("a", "x", NOW_MS, 1.0), ("b", "", NOW_MS + 1, 2.0)])

    frame = collector.to_pandas()

    assert list(frame.columns) == ["metric", "value", "t"]
    assert frame.index[0] == pd.Timestamp(NOW_MS, unit="ms", tz="UTC")
    assert frame["t"].tolist() == ["x", ""]
    assert collector.to_arrow().num_rows == 2
    assert _collector().to_pandas().empty


def test_samples_are_passed_on():
    passed = []

    class Target:
        def gauge(self, *arguments):
            passed.append(arguments)

    collector = MetricsCollector(forward_to=Target(), clock=ManualClock(NOW_MS))
    collector.record("a", 1, {"t": "x"})

    assert passed == [("a", 1.0, {"t": "x"}, NOW_MS)]


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.record("a", "1"),
        lambda c: c.record("", 1),
        lambda c: c.record("a", 1, {"t": 1}),
        lambda c: c.record("a", 1, ts_ms=1_700_000_000),
        lambda c: c.aggregate("a", window_s=0),
        lambda c: c.aggregate("a", window_s=1, percentiles=[101]),
        lambda c: MetricsCollector(retention_s=0),
        lambda c: MetricsCollector(max_samples=0),
    ],
)
def test_what_cannot_be_is_refused(call):
    with pytest.raises(BadRequest):
        call(_collector())
