"""Random queries over rollups, against the same samples in memory: what tiers answer is checked.

    python tests/benchmarks/diff_tiers.py --queries 10000       make diff-tiers

A world is tables as jobs leave them at some moment: windows closed up to a frontier, late samples
not yet repaired, or repaired in the finest tier alone, samples expired. A question is a function of
windows that may lie anywhere. The oracle knows all samples that ever were, and nothing of rollups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from tests.tables import QUERY, WrittenTables
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.model.staleness import STALE_NAN
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, RAW, TIER_NAMES, TIERS, Tier
from varve.promql.engine import Engine
from varve.promql.errors import QueryError
from varve.promql.function_table import FUNCTIONS
from varve.promql.signatures import Accuracy
from varve.promql.testing import MemoryStorage
from varve.query.evaluation import Answer, Options, Range, evaluate
from varve.query.view import View
from varve.rollups.task import run_task
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import TierPlan
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, rewrite
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

T = 1_795_338_000_000 // DAY_MS * DAY_MS
SPAN_MS = 50 * HOUR_MS
STAGES = ("closed", "open", "late", "half repaired", "expired")
ANSWERED = sorted(
    name
    for name, entry in FUNCTIONS.items()
    if entry.kernel is not None and entry.tier.accuracy is not Accuracy.RAW_ONLY
)
FUNCTION_NAMES = ("", "timestamp", *ANSWERED)

Point = tuple[int, float | None]


@dataclass
class World:
    """Tables at some stage, and all samples that ever were, by the label `i` of their series."""

    tables: WrittenTables
    stage: str
    points: dict[str, dict[int, float | None]]
    expired_ms: int | None = None
    _engine: list[Engine] = field(default_factory=list)
    _size: list[float] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        """Evaluates over all samples, in memory."""
        if not self._engine:
            series = {
                (("__name__", "m"), ("i", name)): [
                    (t, STALE_NAN if v is None else v, 0) for t, v in points.items()
                ]
                for name, points in self.points.items()
            }
            self._engine.append(Engine(MemoryStorage.of(series)))
        return self._engine[0]

    @property
    def size(self) -> float:
        """The greatest absolute value."""
        if not self._size:
            values = (v for points in self.points.values() for v in points.values())
            self._size.append(max(abs(v) for v in values if v is not None and not math.isnan(v)))
        return self._size[0]

    def put(self, samples: dict[str, list[Point]], *, complete_ms: int | None = None) -> None:
        """Commits samples; of copies the greatest counts, as numbers only are sent twice."""
        rows = []
        for name, points in samples.items():
            held = self.points.setdefault(name, {})
            for t, v in points:
                if t not in held:
                    held[t] = v
                    rows.append((series_id(name), t, v))
        if rows:
            self.tables.put(rows, complete_ms=complete_ms)
        self._engine.clear()
        self._size.clear()

    def roll_up(self, tiers: tuple[Tier, ...] = TIERS) -> None:
        """Closes and repairs all that is due in some tiers."""
        for tier in tiers:
            store = self.tables.store
            plan = TierPlan(store, tier, (QUERY,), grace_ms=0, repair_every_ms=0, repair_keys=1)
            worker = TierWorker(plan, ManualClock())
            while (planned := worker.plan()) is not None:
                files = [run_task(task) for task in planned.tasks]
                worker.commit(planned, [file for file in files if file is not None])

    def expire(self, until_ms: int) -> None:
        """Deletes the samples up to a time, as expiry will: first it says so."""
        self.expired_ms = until_ms
        table = Table(self.tables.store, "samples")
        files = snapshot(self.tables.store, "samples").files
        whole = snapshot(self.tables.store, "samples").scan(Bounds(start_ms=until_ms))
        left = whole.sort_by([("series_id", "ascending"), ("ts", "ascending")])
        removed = [Removal(f.path, f.size, rows_disappear=True) for f in files]
        step = {positions.expired(): Step(table.position(positions.expired()), until_ms)}
        kept = write_file(self.tables.store, "samples", left)
        rewrite(table, [kept], removed, transactions=step)


def series_id(name: str) -> int:
    return define("m", {"i": name}).series_id


def build(root: str, stage: str, rng: Random) -> World:
    """Tables as they are at a stage."""
    world = World(WrittenTables(root), stage, {})
    world.tables.define([define("m", {"i": name}) for name in "cgsek"])
    end = T + SPAN_MS
    until = end if stage in ("closed", "expired") else T + rng.randrange(30 * HOUR_MS, 45 * HOUR_MS)
    everything = dict(samples(rng))
    late = {n: [p for p in points if rng.random() < 0.01] for n, points in everything.items()}
    if stage not in ("late", "half repaired"):
        late = {name: [] for name in everything}
    soon = {n: [p for p in points if p not in late[n]] for n, points in everything.items()}
    world.put({n: [p for p in ps if p[0] <= until] for n, ps in soon.items()}, complete_ms=until)
    world.roll_up()
    world.put({n: [p for p in ps if p[0] > until] for n, ps in everything.items()})
    if any(late.values()):
        world.put(late)
        if stage == "half repaired":
            world.roll_up(TIERS[: rng.randrange(1, 4)])
    if stage == "expired":
        world.expire(T + rng.randrange(20 * HOUR_MS, 40 * HOUR_MS))
    return world


def samples(rng: Random) -> Iterator[tuple[str, list[Point]]]:
    """A counter, a gauge with gaps, a sparse series, one that ends, and a constant."""
    value, t, counter = 0.0, T - 3 * HOUR_MS, []
    while t < T + SPAN_MS:
        value = float(rng.randrange(5)) if rng.random() < 0.002 else value + rng.choice((0, 1, 2.5))
        counter.append((t, value))
        t += rng.choice((29_000, 30_000, 31_000, 60_000)) if rng.random() < 0.999 else 2 * HOUR_MS
    yield "c", counter
    gauge: list[Point] = []
    for t in range(T + 7, T + SPAN_MS, 97_000):
        odd = rng.random()
        gauge.append((t, None if odd < 0.01 else math.nan if odd < 0.02 else rng.gauss(0, 1e3)))
    yield "g", gauge
    sparse = sorted({T + rng.randrange(SPAN_MS // MINUTE_MS) * MINUTE_MS for _ in range(80)})
    yield "s", [(t, float(rng.randrange(-3, 4))) for t in sparse]
    ended: list[Point] = [(t, float(t % 7)) for t in range(T, T + 20 * HOUR_MS, 45_000)]
    yield "e", [*ended, (ended[-1][0] + 1, None)]
    yield "k", [(t, 4.25) for t in range(T, T + SPAN_MS, 300_000)]


@dataclass(frozen=True)
class Leaf:
    """A function of windows: name(m[range_ms]) with an offset or a time of @, of one selector."""

    name: str
    range_ms: int
    offset_ms: int = 0
    at_ms: int | None = None
    q: float = 0.5
    selector: str = "m"

    @property
    def text(self) -> str:
        source = self.selector
        if self.name not in ("", "timestamp"):
            source += f"[{self.range_ms}ms]"
        if self.at_ms is not None:
            source += f" @ {self.at_ms / 1000:.3f}"
        if self.offset_ms:
            source += f" offset {self.offset_ms}ms"
        return self.around(source)

    def around(self, source: str) -> str:
        if self.name == "quantile_over_time":
            return f"quantile_over_time({self.q}, {source})"
        return f"{self.name}({source})" if self.name else source

    def windows(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the window of each step begins and ends."""
        ends = (times if self.at_ms is None else np.full_like(times, self.at_ms)) - self.offset_ms
        return ends - self.range_ms, ends


@dataclass(frozen=True)
class Question:
    leaf: Leaf
    times: Range
    tier: str | None
    other: Leaf | None = None
    lookback_ms: int = 300_000

    @property
    def text(self) -> str:
        return self.leaf.text if self.other is None else f"{self.leaf.text} - {self.other.text}"


def question(rng: Random, name: str, tier: str | None, stage: str) -> Question:
    """Anywhere in the world; often aligned to some tier, and across its frontier."""
    width = rng.choice([t.width_ms for t in TIERS if t.name == tier] or [60_000, 300_000, HOUR_MS])
    unit = width if rng.random() < 0.6 else rng.choice((1, 1_000, 15_000, MINUTE_MS, width))

    def about(most: int) -> int:
        return max(1, rng.randrange(1, max(2, min(most, SPAN_MS) // unit + 1))) * unit

    step = about(4 * HOUR_MS)
    start = (T + rng.randrange(SPAN_MS)) // unit * unit
    lookback = rng.choice((300_000, 300_000, about(2 * HOUR_MS)))

    def leaf(of: str) -> Leaf:
        range_ms = lookback if of in ("", "timestamp") else about(8 * HOUR_MS)
        offset = rng.choice((0, 0, 0, about(6 * HOUR_MS), -about(HOUR_MS)))
        at = (T + rng.randrange(SPAN_MS)) // unit * unit if rng.random() < 0.1 else None
        return Leaf(of, range_ms, offset, at, rng.choice((0.0, 0.5, 0.9, 1.0)))

    other = leaf(rng.choice(FUNCTION_NAMES)) if stage != "expired" and rng.random() < 0.1 else None
    times = Range(start, start + rng.randrange(30) * step, step)
    return Question(leaf(name), times, tier, other, lookback)


def ask(view: View, asked: Question) -> Answer:
    options = Options(tier=asked.tier, lookback_ms=asked.lookback_ms)
    return evaluate(view, asked.text, asked.times, options)


def check(world: World, view: View, asked: Question) -> str:
    """Raises AssertionError unless the answer is that of the samples as far as docs/tiers.md says,
    or that of moved windows and says so, or an error that names what to ask. Returns which.
    """
    try:
        answer = ask(view, asked)
    except QueryError as err:
        _check_refusal(world, asked, str(err))
        return "refused"
    if answer.provenance.is_partial:
        assert world.expired_ms is not None
        return "partial"
    moved_ms = answer.provenance.moved_ms
    if moved_ms:
        _check_moved(world, asked, answer)
        return "approximate"
    times = asked.times
    wanted = world.engine.range(
        asked.text, times.start_ms, times.end_ms, times.step_ms, lookback_ms=asked.lookback_ms
    )
    leaves = [leaf for leaf in (asked.leaf, asked.other) if leaf is not None]
    bounds = [bound(world, leaf) for leaf in leaves]
    compare(found(answer.result), found(wanted), sum(bounds))
    return "raw" if answer.provenance.tier == RAW else "exact"


def found(result: object) -> dict[tuple, dict[int, float]]:
    """By labels, the values by time."""
    matrix = result.value
    labels, times = matrix.labels.labels(), result.times.tolist()
    return {
        labels[row]: {
            times[s]: float(matrix.values[row, s])
            for s in np.flatnonzero(matrix.present[row]).tolist()
        }
        for row in result.order.tolist()
    }


def compare(got: dict, wanted: dict, most: float) -> None:
    assert got.keys() == wanted.keys()
    for key, values in wanted.items():
        assert got[key].keys() == values.keys(), key
        for t, value in values.items():
            mine = got[key][t]
            same = mine == value or (math.isnan(mine) and math.isnan(value))
            assert same or abs(mine - value) <= most, (key, t, mine, value, most)


def bound(world: World, leaf: Leaf) -> float:
    """How far a value may be from that of the samples, as docs/tiers.md says."""
    accuracy = FUNCTIONS[leaf.name].tier.accuracy if leaf.name else Accuracy.EXACT
    if accuracy in (Accuracy.EXACT, Accuracy.RAW_ONLY):
        return 0.0
    size, count = world.size, max(map(len, world.points.values()))
    if accuracy is Accuracy.SKETCHED:
        return 0.0109 * size
    seconds = leaf.range_ms / 1000
    # Extrapolation multiplies by at most 2 and a half; what rounding leaves of a variance has a
    # root.
    return {
        "sum_over_time": 1e-12 * size * count,
        "avg_over_time": 3e-12 * size,
        "increase": 1e-11 * size,
        "rate": 1e-11 * size / seconds,
        "stdvar_over_time": 1e-12 * size**2,
        "stddev_over_time": 1e-7 * size,
    }[leaf.name]


def _check_refusal(world: World, asked: Question, text: str) -> None:
    """Only ranges shorter than the finest tier's windows are refused, and only of expired time."""
    assert world.expired_ms is not None, text
    _, ends = asked.leaf.windows(_steps(asked.times))
    if asked.tier == RAW or ends.max() <= world.expired_ms:
        assert "expired" in text
    finest = next((t for t in TIERS if asked.tier in (None, t.name)), None)
    if finest is not None and "finest tier" in text:
        assert asked.leaf.range_ms < 2 * TIERS[-1].width_ms
        assert "ask for ranges of" in text


def _check_moved(world: World, asked: Question, answer: Answer) -> None:
    """The answer is exactly that of windows whose ends are up to so much earlier."""
    assert world.expired_ms is not None
    assert any("approximate" in text for text in answer.result.warnings)
    leaf, times = asked.leaf, _steps(asked.times)
    moved_ms = answer.provenance.moved_ms
    starts, ends = leaf.windows(times)
    got = found(answer.result)
    chain = [t for t in TIERS if asked.tier is None or t.width_ms <= _width(asked.tier)]
    options = [chain, [t for t in chain if t.name == answer.provenance.tier]] + [
        chain[k:] for k in range(len(chain))
    ] + [[t] for t in chain]  # fmt: skip
    instant = leaf.name in ("", "timestamp")
    problems = []
    for tiers in options:
        moved = [_floored(world, tiers, int(e)) for e in ends]
        begun = [
            e - leaf.range_ms if instant else _floored(world, tiers, int(s))
            for s, e in zip(starts, moved, strict=True)
        ]
        most = max(int(e) - m for e, m in zip(ends, moved, strict=True))
        if not instant:
            most = max(most, *(int(s) - b for s, b in zip(starts, begun, strict=True)))
        if most != moved_ms:
            continue
        try:
            for step, (b, e) in enumerate(zip(begun, moved, strict=True)):
                one = Leaf(leaf.name, e - b, q=leaf.q)
                asking = Question(one, Range(e, e, 1), None)
                result = world.engine.range(
                    asking.text, e, e, 1, lookback_ms=e - b if instant else None
                )
                wanted = {k: {int(times[step]): v[e]} for k, v in found(result).items()}
                mine = {
                    k: {int(times[step]): v[int(times[step])]}
                    for k, v in got.items()
                    if int(times[step]) in v
                }
                compare(mine, wanted, bound(world, replace(leaf, range_ms=max(1, e - b))))
        except AssertionError as err:
            problems.append(err)
        else:
            return
    raise AssertionError(f"no windows moved by {moved_ms} ms give this: {problems}")


def _floored(world: World, tiers: list[Tier], edge: int) -> int:
    """Where an edge goes: to the start of the finest window that holds it, if samples from there on
    are gone.
    """
    for tier in tiers:
        frontier = T + SPAN_MS - (T + SPAN_MS) % tier.width_ms
        if -(-edge // tier.width_ms) * tier.width_ms <= frontier:
            aligned = edge // tier.width_ms * tier.width_ms
            return aligned if aligned < (world.expired_ms or 0) else edge
    return edge


def _width(tier: str) -> int:
    return next((t.width_ms for t in TIERS if t.name == tier), 0)


def _steps(times: Range) -> np.ndarray:
    return np.arange(times.start_ms, times.end_ms + 1, times.step_ms, dtype=np.int64)


FORCED: tuple[str | None, ...] = (None, *TIER_NAMES)
