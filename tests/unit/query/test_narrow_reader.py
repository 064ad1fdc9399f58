"""A head of some series only, against all samples that were ever written."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import WrittenTables
from varve.model.identity import define
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.head_series import HeadSeries
from varve.query.narrow_reader import NarrowReader
from varve.query.tables import Tables
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

START = 1_795_338_000_000
MINUTE_MS = 60_000
SERIES = [define(metric, {"i": f"h{i}"}) for metric in "abc" for i in range(3)]
SELECTORS = {
    "a": (Matcher("__name__", MatchOp.EQUAL, "a"),),
    "b": (Matcher("__name__", MatchOp.EQUAL, "b"),),
    "h1": (Matcher("i", MatchOp.EQUAL, "h1"),),
    "all": (Matcher("__name__", MatchOp.REGEX, ".+"),),
}
HEAD_BYTES = 1 << 20

held = st.lists(st.sampled_from(["a", "b", "h1"]), max_size=2, unique=True)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 400), st.sets(st.integers(0, len(SERIES) - 1))),
        st.tuples(st.just("hold"), held, st.sampled_from([MINUTE_MS, 60 * MINUTE_MS])),
        st.just(("compact",)),
        st.just(("poll",)),
    ),
    min_size=1,
    max_size=12,
)


class World:
    def __init__(self, root: str, names: list[str], keep_ms: int = 60 * MINUTE_MS) -> None:
        self.written = WrittenTables(root)
        self.points: dict[int, dict[int, float]] = {}
        self.tables = Tables(
            *(self.written.store, ["bulk"], 2 * HEAD_BYTES), head_series=head(names, keep_ms)
        )

    def put(self, minute: int, places: set[int]) -> None:
        """One sample of each series, which is registered before it."""
        self.written.define([SERIES[place] for place in places])
        ts = START + minute * MINUTE_MS
        for place in places:
            self.points.setdefault(place, {})[ts] = float(place)
        self.written.put((SERIES[p].series_id, ts, float(p)) for p in places)

    def compact(self) -> None:
        """All rows in one file, as the compaction job would leave them."""
        store = self.written.store
        live = snapshot(store, "samples")
        if live.files:
            rows = live.scan(Bounds()).sort_by([("series_id", "ascending"), ("ts", "ascending")])
            removes = [Removal(file.path, file.size) for file in live.files]
            rewrite(Table(store, "samples"), [write_file(store, "samples", rows)], removes)

    def settle(self) -> None:
        self.tables.poll()
        while not self.tables.caught_up:
            self.tables.poll()

    def read(self, name: str) -> dict[tuple[str, str], dict[int, float]]:
        reader = NarrowReader(self.tables.view)
        found = reader.select(SELECTORS[name], 0, 2**62, SelectHints())
        got = {}
        for row, labels in enumerate(found.labels.dicts()):
            rows = slice(found.samples.begins[row], found.samples.ends[row])
            points = zip(found.samples.ts[rows].tolist(), found.samples.values[rows], strict=True)
            got[labels["__name__"], labels["i"]] = dict(points)
        return {labels: points for labels, points in got.items() if points}

    def wanted(self, name: str) -> dict[tuple[str, str], dict[int, float]]:
        is_in = {
            "a": lambda one: one.metric == "a",
            "b": lambda one: one.metric == "b",
            "h1": lambda one: dict(one.tags)["i"] == "h1",
            "all": lambda _: True,
        }[name]
        return {
            (SERIES[place].metric, dict(SERIES[place].tags)["i"]): points
            for place, points in self.points.items()
            if is_in(SERIES[place])
        }


def head(names: list[str], keep_ms: int = 60 * MINUTE_MS) -> HeadSeries:
    return HeadSeries(tuple(SELECTORS[name] for name in names), keep_ms)


@settings(max_examples=40)
@given(names=held, steps=steps)
def test_whatever_the_head_holds_answers_are_of_all_that_was_written(names, steps):
    with tempfile.TemporaryDirectory() as root:
        world = World(root, names)
        for kind, *given_ in steps:
            if kind == "put" and given_[1]:
                world.put(*given_)
            elif kind == "hold":
                world.tables.hold(head(*given_))
            elif kind == "compact":
                world.compact()
            else:
                world.tables.poll()
        world.settle()

        for name in SELECTORS:
            assert world.read(name) == world.wanted(name)


@pytest.fixture
def world(tmp_path):
    return World(str(tmp_path), ["a"])


def test_what_is_held_is_read_once_and_takes_memory_for_itself_alone(world):
    for minute in range(30):
        world.put(minute, set(range(len(SERIES))))
        world.settle()
    view = world.tables.view
    decoded = view.row_groups.decoded

    assert world.read("a") == world.wanted("a")

    assert view.row_groups.decoded == decoded
    assert sum(run.rows for run in view.head) == 30 * 3
    assert view.head_ids.tolist() == sorted(s.series_id for s in SERIES if s.metric == "a")


def test_what_is_older_than_is_to_be_kept_leaves_memory_and_is_still_read(world):
    for hour in range(8):
        world.put(60 * hour, {0, 4})
        world.settle()

    times = [ts for run in world.tables.view.head for ts in run.ts.tolist()]

    assert START + 7 * 60 * MINUTE_MS in times
    assert min(times) >= START + 4 * 60 * MINUTE_MS
    assert world.read("all") == world.wanted("all")


def test_a_series_that_begins_later_is_held_from_its_first_sample(world):
    world.put(0, {0})
    world.settle()

    world.put(1, {0, 1})
    world.settle()

    assert sum(run.rows for run in world.tables.view.head) == 3
    assert world.read("a") == world.wanted("a")
