"""Which series there were in a range of time, against all samples that ever were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import WrittenTables
from tests.unit.query.tier_queries import DAY_MS, HOUR_MS
from varve.model.identity import define
from varve.model.series_matcher import SeriesMatcher
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query import narrowing, seen_series
from varve.query.reader import Reader
from varve.query.snapshots import Snapshots
from varve.query.tables import Tables
from varve.query.tier_view import ClassMark

T = 1_795_338_000_000 // DAY_MS * DAY_MS
DAYS = 4
ANY = SeriesMatcher.of({"i": ".*"})
M = Matcher("__name__", MatchOp.EQUAL, "m")


class World:
    """Series that live for a while, some of them twice; the last hours are not rolled up yet, and
    some late samples are not repaired.
    """

    def __init__(self, root: str) -> None:
        self.written = WrittenTables(root)
        self.points: dict[str, list[int]] = {}
        series = {f"s{i}": define("m", {"i": f"s{i}"}) for i in range(60)}
        self.written.define(series.values(), T)
        random = np.random.default_rng(7)
        for name in series:
            lives = random.integers(0, DAYS * DAY_MS, 2 if name.endswith("7") else 1)
            points = {int(b + k) for b in lives for k in random.integers(1, 5 * HOUR_MS, 6)}
            self.points[name] = sorted(T + p for p in points if p < DAYS * DAY_MS)
        end = T + DAYS * DAY_MS
        closed = end - 3 * HOUR_MS
        self.put(series, lambda _, ts: ts <= closed, complete_ms=closed)
        self.written.roll_up()
        self.put(series, lambda _, ts: ts > closed, complete_ms=end)
        late = {name: [T + i * 9 * HOUR_MS + 1] for i, name in enumerate(series) if i % 7 == 0}
        self.written.put((series[n].series_id, ts, 1.0) for n, all_ in late.items() for ts in all_)
        for name, all_ in late.items():
            self.points[name] = sorted(self.points[name] + all_)
        self.head = Tables(self.written.store, ["bulk"], 64 << 20)
        while not self.head.caught_up:
            self.head.poll()
        self.cold = Tables(self.written.store, ["bulk"], 0)

    def put(self, series, is_in, complete_ms):
        rows = (
            (series[name].series_id, ts, 1.0)
            for name, points in self.points.items()
            for ts in points
            if is_in(name, ts)
        )
        self.written.put(rows, complete_ms=complete_ms)

    def names(self, first_ms: int, last_ms: int) -> set[str]:
        return {n for n, all_ in self.points.items() if any(first_ms <= t <= last_ms for t in all_)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(str(tmp_path_factory.mktemp("tables")))


def ranges():
    ends = st.integers(0, DAYS * DAY_MS) | st.integers(0, DAYS * 24).map(lambda h: h * HOUR_MS)
    return st.tuples(ends, ends).map(lambda pair: (T + min(pair), T + max(pair)))


@settings(max_examples=200)
@given(span=ranges())
def test_series_are_those_seen_in_the_windows_of_a_range(world, span):
    first, last = span
    found = Reader(world.head.view).label_values("i", [[M]], first, last)

    width = HOUR_MS if last - first <= 3 * DAY_MS - 1 else DAY_MS
    wide = world.names((first - 1) // width * width + 1, -(-last // width) * width)
    assert world.names(first, last) <= set(found) <= wide
    assert Reader(world.head.view).label_names([], first, last) == (
        ["__name__", "i"] if found else []
    )
    assert Reader(world.head.view).series([[M]], first, last).size == len(found)
    # It is the same from files, and as of then.
    assert Reader(world.cold.view).label_values("i", [[M]], first, last) == found


def test_as_of_a_snapshot_there_are_the_series_of_then(world):
    view = world.head.view
    known = Snapshots(world.written.store, ["bulk"], lambda: view)
    first, last = T + DAY_MS, T + 2 * DAY_MS

    then = known.at(view.provenance.versions)

    assert Reader(then).label_values("i", [], first, last) == Reader(view).label_values(
        "i", [], first, last
    )


@settings(max_examples=100)
@given(span=ranges())
def test_a_query_has_every_sample_whether_its_series_are_narrowed_or_not(world, span):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(narrowing, "MANY_REGISTERED", 0)
        selection = Reader(world.head.view).select([M], *span, SelectHints())

    samples = selection.samples
    found = {
        labels["i"]: samples.ts[begin:end].tolist()
        for labels, begin, end in zip(
            selection.labels.dicts(), samples.begins, samples.ends, strict=True
        )
        if begin < end
    }
    start, end = span
    inside = {n: [t for t in all_ if start < t <= end] for n, all_ in world.points.items()}
    assert found == {name: points for name, points in inside.items() if points}


def test_what_has_ended_is_not_looked_at_and_nothing_is_read_twice(world, monkeypatch):
    monkeypatch.setattr(narrowing, "MANY_REGISTERED", 0)
    view = world.head.view
    start, end = T + 2 * DAY_MS, T + 2 * DAY_MS + HOUR_MS

    looked_at = Reader(view).select([M], start, end, SelectHints()).labels
    read = view.rollups.files.decoded
    again = Reader(view).select([M], start, end, SelectHints()).labels

    living = world.names(start - HOUR_MS, end + HOUR_MS)
    assert {labels["i"] for labels in looked_at.dicts()} <= living
    assert len(living) < len(world.points) / 3
    assert again is looked_at  # found once
    assert view.rollups.files.decoded == read


def test_a_range_that_needs_too_many_rows_leaves_no_series_out(world, monkeypatch):
    monkeypatch.setattr(narrowing, "MOST_ROWS", 10)

    assert len(Reader(world.head.view).label_values("i", [], T, T + DAY_MS)) == 60


def test_files_that_are_gone_leave_no_series_out(world, monkeypatch):
    def gone(*_):
        raise FileNotFoundError("gone")

    cold = Tables(world.written.store, ["bulk"], 0)
    monkeypatch.setattr(cold.view.rollups.files, "read_file", gone)

    assert len(Reader(cold.view).label_values("i", [], T, T + DAY_MS)) == 60


@pytest.mark.parametrize(
    "marked", [{"refused_until_ms": T + 1}, {"classes": (ClassMark(ANY, T + 1),)}]
)
def test_where_rows_may_have_expired_no_series_is_left_out(world, marked):
    view = world.head.view
    tiers = [replace(t, **marked) if t.tier.name in ("1h", "1d") else t for t in view.tiers]
    expired = replace(view, tiers=tiers)

    assert len(Reader(expired).label_values("i", [], T, T + HOUR_MS)) == 60
    assert len(Reader(expired).label_values("i", [], T + 2, T + HOUR_MS)) < 60


def test_which_series_live_is_found_once_for_all_queries_of_a_view(world, monkeypatch):
    asked = []

    def seen_within(*args, **given):
        asked.append(args)
        return seen_series.seen_within(*args, **given)

    monkeypatch.setattr(narrowing, "MANY_REGISTERED", 0)
    monkeypatch.setattr(narrowing, "seen_within", seen_within)
    view = replace(world.head.view, living={})

    for _ in range(3):
        Reader(view).select([M], T, T + HOUR_MS, SelectHints())
    assert len(asked) == 1

    for hour in range(20):
        Reader(view).select([M], T + hour * HOUR_MS, T + (hour + 1) * HOUR_MS, SelectHints())
    assert len(asked) == 20
    assert len(view.living) == narrowing._REMEMBERED
