"""Processes that evaluate rules over real tables, with a clock that tests step, and deaths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np

from tests.tables import QUERY, WrittenTables
from varve.model.identity import define
from varve.model.staleness import is_stale
from varve.query.snapshots import Snapshots
from varve.query.tables import Tables as QueryTables
from varve.rules.group_run import Evaluator
from varve.rules.label_sets import METRIC_NAME
from varve.rules.rule_file import parse_rule_file
from varve.rules.running.claims import ClaimLog
from varve.rules.running.loading import Loader, Tables
from varve.rules.running.outcomes import OutcomeSender
from varve.rules.running.runner import Runner
from varve.rules.running.slots import Timing
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.telemetry.metrics import RulesMetrics
from varve.telemetry.registry import Telemetry

START_MS = 1_800_000_000_000
Fault = Callable[[str], None]


class Died(Exception):
    """A process ended in the middle of something."""


class World:
    """Tables that samples are put into, and a clock. Rules' samples come to the tables as soon as
    `store` is called.
    """

    def __init__(self, root: str) -> None:
        self.written = WrittenTables(root)
        self.store = self.written.store
        self.now_ms = START_MS
        self.complete_ms = START_MS
        self.sent: list[tuple] = []
        """What Kafka has of rules: samples that are not in the tables yet."""
        self.events: list[dict] = []
        self.told: list[tuple] = []
        self._defined: set[int] = set()

    def produce(
        self, metric: str, value: float | None, ts_ms: int | None = None, /, **tags: str
    ) -> None:
        self.sent.append((metric, tags, self.now_ms if ts_ms is None else ts_ms, value))

    def ingest(self, complete_ms: int | None = None) -> None:
        """What has been sent is stored, and everything up to a time is complete."""
        rows, definitions = [], {}
        for metric, tags, ts_ms, value in self.sent:
            one = define(metric, tags)
            definitions[one.series_id] = one
            rows.append((one.series_id, ts_ms, value))
        new = [d for i, d in definitions.items() if i not in self._defined]
        if new:
            self.written.define(new)
            self._defined |= {d.series_id for d in new}
        self.sent = []
        complete_ms = self.now_ms if complete_ms is None else complete_ms
        self.complete_ms = max(self.complete_ms, complete_ms)
        self.written.put(rows, complete_ms=self.complete_ms)

    def changes(self, *, reviews: bool = False) -> list[tuple]:
        """(evaluated_at after the start in s, state, name, late, incomplete), in order."""
        rows = snapshot(self.store, "alerts").scan(Bounds()).to_pylist()
        return sorted(
            (
                (row["evaluated_at"] - START_MS) / 1000,
                row["review"] or row["state"],
                row["rule"],
                row["incomplete"],
                row["late"],
            )
            for row in rows
            if bool(row["review"]) == reviews
        )

    def samples(self, metric: str) -> dict[tuple, dict[float, float | None]]:
        """By labels, value by seconds after the start, of the stored samples."""
        tables = QueryTables(self.store, (QUERY,), 64 << 20)
        series = {
            d["series_id"]: tuple(sorted(dict(d["tags"]).items()))
            for d in snapshot(self.store, "series").scan(Bounds()).to_pylist()
            if d["metric"] == metric
        }
        tables.close()
        found: dict[tuple, dict[float, float | None]] = {}
        for row in snapshot(self.store, "samples").scan(Bounds()).to_pylist():
            if row["series_id"] not in series:
                continue
            points = found.setdefault(series[row["series_id"]], {})
            at = (row["ts"] - START_MS) / 1000
            old = points.get(at)
            if at not in points or old is None or (row["value"] is not None and row["value"] > old):
                points[at] = row["value"]
        return found


class InlineSender(OutcomeSender):
    """Sends at once, or once `release` is called."""

    def __init__(self, world: World, fault: Fault) -> None:
        super().__init__(self, lambda: world.now_ms)  # type: ignore[arg-type]
        self._world, self._fault = world, fault
        self.holding = False
        self._held = []

    def put(self, outcome) -> None:
        self._held.append(outcome)
        if not self.holding:
            self.release()

    def release(self) -> None:
        for outcome in self._held:
            self._fault("before sending")
            for sample in outcome.batch.samples:
                tags = dict(sample.labels)
                stale = is_stale(np.array([float(sample.value)]))[0]
                value = None if stale else float(sample.value)
                self._world.produce(tags.pop(METRIC_NAME), value, sample.ts_ms, **tags)
            self._world.events += [change.event() for change in outcome.events]
            outcome.batch.sent_ms = self._world.now_ms
            self._fault("after sending")
        self._held = []


class FaultyClaims(ClaimLog):
    fault: Fault = staticmethod(lambda _point: None)

    def _write(self, steps, said, rows) -> None:
        kind = next((k for k in ("claim", "take", "release", "done") if k in said), "announce")
        self.fault(f"before {kind}")
        super()._write(steps, said, rows)
        self.fault(f"after {kind}")


class Process:
    """One process. `die` names the points at which it dies, in turn."""

    def __init__(
        self,
        world: World,
        rules: str,
        name: str = "a",
        *,
        gone: Callable[[str], bool] = lambda _member: False,
        fault: Fault = lambda _point: None,
        shards: int = 2,
        wait_s: float = 30,
        catch_up_s: float = 3600,
        interval_s: float = 5,
        lease_s: float = 8,
    ) -> None:
        self.world = world
        self.tables = QueryTables(world.store, (QUERY,), 64 << 20)
        snapshots = Snapshots(world.store, (QUERY,), lambda: self.tables.view)
        self.metrics = RulesMetrics(Telemetry())
        self.sender = InlineSender(world, fault)
        claims = FaultyClaims(
            world.store,
            shards,
            name,
            lease_s=lease_s,
            monotonic_s=lambda: world.now_ms / 1000,
            now_ms=lambda: world.now_ms,
            is_gone=gone,
        )
        claims.fault = fault
        loader = Loader(
            Evaluator(interval_ms=round(interval_s * 1000)),
            Timing(round(wait_s * 1000), round(catch_up_s * 1000)),
            shards,
            self.metrics,
            lambda: world.now_ms,
        )
        self.runner = Runner(
            Tables(world.store, lambda: self.tables.view, snapshots.at),
            claims,
            loader,
            self.sender,
            self,
            self.metrics,
            lambda: world.now_ms,
        )
        self.kept: set[int] = set()
        self.load(rules)

    def load(self, rules: str) -> None:
        self.runner.update(parse_rule_file(rules, "rules.yml"))

    def put(self, shard: int, sent: Iterable) -> None:
        self.world.told += [
            (self.world.now_ms, dict(one.labels), one.starts_at_ms, one.ends_at_ms)
            for _, one in sent
        ]

    def keep(self, shards: Collection[int]) -> None:
        self.kept = set(shards)

    def tick(self) -> None:
        """Does all that is due."""
        self.tables.poll()
        for _ in range(1_000):
            if not self.runner.tick():
                return
        raise AssertionError("it never comes to rest")

    def close(self) -> None:
        self.tables.close()

    def count(self, metric: str) -> float:
        return sum(
            sample.value
            for family in getattr(self.metrics, metric).collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )
