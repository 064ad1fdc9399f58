"""Simulated time over some tables: samples come, some of them late, and are rolled up, compacted
and expired each day, beside an oracle that keeps every sample and computes every row from them all.
Series that come are registered as by ingest, and trimmed once they have no row.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.plans import open_registry
from tests.tables import QUERY, WrittenTables, definition_rows
from varve.ingest.age_limits import sure_since
from varve.ingest.retention_classes import RetentionClass
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.expiry import Expiration, Retention
from varve.maintenance.series_rows import HOLDERS
from varve.maintenance.series_trimming import LEAST_AGE_MS
from varve.maintenance.tiering import Tiering
from varve.maintenance.vacuum import Vacuum
from varve.model.clock import ManualClock
from varve.model.errors import TemporaryError
from varve.model.identity import SeriesDefinition, define
from varve.model.schema import table_schema
from varve.model.series_matcher import SeriesMatcher
from varve.model.window import DAY_MS, MINUTE_MS, TIERS, Window
from varve.rollups import algebra, kernel, window_keys
from varve.rollups.repair_throttle import RepairThrottle
from varve.rollups.task import roll_up, run_task
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import TierPlan
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table

BEGIN = 1_798_761_600_000
"""2027-01-01 00:00 UTC."""
TABLES = ("samples", *(tier.table for tier in TIERS))
DEBUG = SeriesMatcher.of({"__name__": "debug_.*", "env": "dev"})
PODS = SeriesMatcher.of({"__name__": "pod_.*"})
"""Series that come and go."""
SERIES = (
    *(define("requests_total", {"host": str(n)}) for n in range(3)),
    define("debug_calls", {"env": "prod"}),
    define("debug_calls", {"env": "dev"}),
    define("debug_depth", {"env": "dev"}),
)

Rows = Mapping[tuple[int, int], tuple[object, ...]]
"""By series_id and time."""


def retention(*days: float, debug: Iterable[float] = (), pods: Iterable[float] = ()) -> Retention:
    """Days by table, the finest first; `debug` and `pods` those of the classes DEBUG and PODS."""
    kept = {t: int(d * DAY_MS) for t, d in zip(TABLES, days, strict=True)}
    classes = []
    for name, matcher, own_days in (("debug", DEBUG, debug), ("pods", PODS, pods)):
        own = {t: int(d * DAY_MS) for t, d in zip(TABLES, own_days, strict=False)}
        if own:
            classes.append(RetentionClass(name, matcher, own))
    return Retention(kept, tuple(classes))


def workers_of(store: Store, clock: ManualClock) -> list[TierWorker]:
    """Of all tiers, without pauses: where hours go by between plan and commit, repairs take by the
    clock all the time there is.
    """
    return [
        TierWorker(
            TierPlan(store, tier, (QUERY,), 0, 0, 1), clock, throttle=RepairThrottle(share=1)
        )
        for tier in TIERS
    ]


class Year:
    """One day after the other. The oracle is the dict `samples`."""

    def __init__(
        self,
        root: str,
        kept: Retention,
        seed: int,
        each_ms: int = 10 * MINUTE_MS,
        colder: Store | None = None,
        series: Sequence[SeriesDefinition] = SERIES,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """colder: the root that `tier` moves files to. options: of the storage."""
        self.series = list(series)
        """All there have ever been."""
        self.tables = WrittenTables(root, dict(options or {}))
        self.tables.store = Store(root, options or {}, colder)
        self.store, self.kept, self.rng, self.each_ms = (
            self.tables.store,
            kept,
            random.Random(seed),
            each_ms,
        )
        self.tables.define(series)
        self.clock = ManualClock(BEGIN)
        self.registry = open_registry(self.store, self.clock)
        self.samples: dict[tuple[int, int], float | None] = {}
        self.slipped: set[tuple[int, int]] = set()
        """Samples that no row is to know of."""
        self.workers = workers_of(self.store, self.clock)

    def day(self, parts: int = 4) -> None:
        """A day's samples, in some batches; those that are late are of any time that is allowed."""
        for _ in range(parts):
            begin, end = self.clock.now_ms(), self.clock.now_ms() + DAY_MS // parts
            self.clock.advance(DAY_MS // parts)
            new = {
                (s.series_id, ts): self.value()
                for s in self.living()
                for ts in range(begin + self.each_ms, end + 1, self.each_ms)
                if self.rng.random() > 0.05
            }
            for _ in range(self.rng.randrange(6)):
                series = self.rng.choice(self.living())
                oldest = self.oldest_allowed(series)
                key = series.series_id, self.rng.randint(max(oldest, BEGIN + 1), end)
                # Of copies the greatest counts, so one that is there already stays.
                if key not in self.samples:
                    new[key] = self.value()
            self.put(new)
            self.roll_up()

    def living(self) -> Sequence[SeriesDefinition]:
        """The series that have samples today."""
        return self.series

    def judge(self, ids: Collection[int]) -> Mapping[str, int | None]:
        """Registers those series that are not, as ingest does before it stores samples of them, and
        returns the positions that these rely on.
        """
        unmoved = {positions.trim(): Table(self.store, "samples").position(positions.trim())}
        judged = [s for s in self.series if s.series_id in ids]
        self.registry.register_rows(definition_rows(judged))
        return unmoved

    def put(self, new: Mapping[tuple[int, int], float | None]) -> None:
        unmoved = self.judge({series for series, _ in new})
        rows = [(series, ts, value) for (series, ts), value in new.items()]
        self.tables.put(rows, complete_ms=self.clock.now_ms(), unmoved=unmoved)
        self.samples.update(new)

    def slip_in(self, key: tuple[int, int]) -> None:
        """A sample of a time up to which those of its series may have expired."""
        unmoved = self.judge({key[0]})
        self.tables.put([(*key, self.value())], unmoved=unmoved)
        self.slipped.add(key)

    def value(self) -> float | None:
        return None if self.rng.random() < 0.02 else float(self.rng.randint(0, 100))

    def oldest_allowed(self, series: SeriesDefinition) -> int:
        """As ingest has it."""
        kept = [self.kept.kept_ms["samples"]]
        kept += [c.kept_ms["samples"] for c in self.kept.classes if c.matcher.matches(series)]
        return sure_since(self.clock.now_ms(), min(kept))

    def roll_up(self, tiers: int = 4) -> None:
        """All that is due in the finest `tiers`."""
        for worker in self.workers[:tiers]:
            while (work := worker.plan()) is not None:
                worker.commit(work, [f for f in map(run_task, work.tasks) if f is not None])

    def compact(self) -> None:
        job = Compaction(self.store)
        while (
            due := job.plan(self.clock.now_ms(), {t: snapshot(self.store, t) for t in job.tables})
        ).merges:
            assert job.run(due).left == 0

    def expire(self) -> int:
        """Everything that is due, series without a row included; the number of rows gone. Raises
        TemporaryError if something is left to the next run.
        """
        job = Expiration(self.store, self.kept)
        done = job.run(
            job.plan(self.clock.now_ms(), {t: snapshot(self.store, t) for t in job.tables})
        )
        if left := [e.left for e in done.expired if not e.is_done]:
            raise TemporaryError(left[0])
        if done.trimmed is not None and not done.trimmed.is_done:
            raise TemporaryError("a rival of the trimming")
        return sum(e.rows for e in done.expired)

    def tier(self, after_ms: Sequence[int]) -> int:
        """Finishes the moves of the run before and begins the next; the number of files that are
        in a colder root alone since. after_ms: as Tiering has it.
        """
        job, now_ms = Tiering(self.store, after_ms), self.clock.now_ms()
        runs = [execute(job, self.store, now_ms).as_json() for _ in range(2)]
        return sum(moved["removed"] for run in runs for moved in run["done"]["moved"])

    def vacuum(self) -> None:
        """Deletes what no version needs. By the simulated time all files were written long ago."""
        execute(Vacuum(self.store), self.store, self.clock.now_ms())

    def marks(self, table: str) -> Mapping[int, int]:
        """Up to where rows of each series may have expired."""
        at = Table(self.store, table).positions()
        of_all = at.get(positions.expired(), 0)
        of_class = {m: max(of_all, at.get(positions.expired(m.text), 0)) for m in (DEBUG, PODS)}
        return {
            s.series_id: max([of_all, *(ms for m, ms in of_class.items() if m.matches(s))])
            for s in self.series
        }

    def mark(self, table: str, series_id: int) -> int:
        """Up to where rows of a series may have expired."""
        return self.marks(table)[series_id]

    def check(self) -> dict[str, int]:
        """Everything that has not expired is as the oracle has it, and nothing else is there. The
        number of rows compared, by table.
        """
        compared = {}
        marks_of = {name: self.marks(name) for name in TABLES}
        since = {name: min(marks.values()) for name, marks in marks_of.items()}
        for name, wanted in self.oracle(since).items():
            there, marks = self.stored(name), marks_of[name]
            kept = {key: row for key, row in wanted.items() if key[1] > marks[key[0]]}
            assert kept == there, difference(name, kept, there)
            compared[name] = len(kept)
        return compared

    def check_definitions(self, store: Store | None = None) -> tuple[set[int], set[int]]:
        """Every row has its definition, in the store of the year or in a copy of it. Returns the
        series that have rows, and those that are defined.
        """
        store = store or self.store
        with_rows = set[int]()
        for name in HOLDERS:
            found = ids_in(store, name)
            with_rows |= found
            # Looked at afterwards: nobody adds any in between.
            assert found <= ids_in(store, "series"), f"{name} has rows without a definition"
        return with_rows, ids_in(store, "series")

    def check_trimmed(self) -> int:
        """After a trimming only series that have rows, or were registered lately, are defined;
        returns how many definitions have gone.
        """
        with_rows, defined = self.check_definitions()
        seen = snapshot(self.store, "series").scan(Bounds(), ["series_id", "last_seen"])
        frontier = Table(self.store, TIERS[-2].table).position(positions.frontier(TIERS[-2].name))
        lately = (frontier or 0) - LEAST_AGE_MS
        young = {row["series_id"] for row in seen.to_pylist() if row["last_seen"] > lately}
        assert defined <= with_rows | young
        return len(self.series) - len(defined)

    def stored(self, name: str) -> Rows:
        """What the table says."""
        rows = snapshot(self.store, name).scan(Bounds())
        if name == "samples":
            found: dict[tuple[int, int], tuple[object, ...]] = {}
            for row in rows.to_pylist():
                found[row["series_id"], row["ts"]] = (row["value"],)
            return {key: row for key, row in found.items() if key not in self.slipped}
        newest = window_keys.newest_revisions(
            *(
                np.ascontiguousarray(rows[c].to_numpy())
                for c in ("series_id", "window_end", "revision")
            )
        )
        return by_key(rows.take(newest))

    def oracle(self, since: Mapping[str, int]) -> Mapping[str, Rows]:
        """All rows up to the frontiers, from all samples there ever were. since: the time after
        which rows of each table are wanted.
        """
        flat = [(s, ts, v) for (s, ts), v in sorted(self.samples.items())]
        schema = table_schema("samples").arrow
        columns = zip(zip(*flat, strict=True), schema, strict=True)
        raw = pa.table(
            [pa.array(column, f.type, from_pandas=False) for column, f in columns], schema=schema
        )
        whole = Window(BEGIN, self.clock.now_ms() // DAY_MS * DAY_MS + DAY_MS)
        rows = roll_up(raw, TIERS[0], whole)
        found: dict[str, Rows] = {
            "samples": {(s, ts): (v,) for s, ts, v in flat if ts > since["samples"]}
        }
        for tier in TIERS:
            if tier is not TIERS[0]:
                rows = kernel.merge(rows, np.arange(len(rows)), tier.width_ms)
            frontier = Table(self.store, tier.table).position(positions.frontier(tier.name)) or 0
            table = algebra.to_table(rows, 0)
            ends = pc.field("window_end")
            wanted = (ends > since[tier.table]) & (ends <= frontier)
            found[tier.table] = by_key(table.filter(wanted))
        return found


def ids_in(store: Store, name: str) -> set[int]:
    """The series of a table's rows."""
    rows = snapshot(store, name).scan(Bounds(), ["series_id"])
    return set(rows.column("series_id").unique().to_pylist())


def by_key(rows: pa.Table) -> Rows:
    """Rollup rows, without their revision."""
    values = rows.drop_columns(["series_id", "window_end", "revision"])
    columns = [map(str, values.column(n).to_pylist()) for n in range(values.num_columns)]
    keys = zip(rows["series_id"].to_pylist(), rows["window_end"].to_pylist(), strict=True)
    return dict(zip(keys, zip(*columns, strict=True), strict=True))


def difference(name: str, wanted: Rows, there: Rows) -> str:
    """What differs, in short."""
    missing, extra = wanted.keys() - there.keys(), there.keys() - wanted.keys()
    other = [key for key in wanted.keys() & there.keys() if wanted[key] != there[key]]
    return (
        f"{name}: {len(missing)} missing {sorted(missing)[:3]}, {len(extra)} too many"
        f" {sorted(extra)[:3]}, {len(other)} differ {sorted(other)[:3]}"
    )
