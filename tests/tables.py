"""Tables for tests, written the way jobs write them: files, then one commit with positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from varve.model.clock import ManualClock
from varve.model.identity import SeriesDefinition
from varve.model.schema import table_schema
from varve.model.window import TIERS, Tier
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

QUERY = "bulk"


class WrittenTables:
    """A store with all tables, empty at first."""

    def __init__(self, root: str, options: dict[str, str] | None = None) -> None:
        self.store = Store(root, options or {})
        create_tables(self.store)

    def define(self, definitions: Iterable[SeriesDefinition], seen_ms: int = 0) -> None:
        """One commit to series."""
        table = Table(self.store, "series")
        held = table.position("registry")
        file = write_file(self.store, "series", definition_rows(definitions, seen_ms))
        step = Step(held, 0 if held is None else held + 1)
        commit(table, [file], transactions={"registry": step})

    def put(
        self,
        samples: Iterable[tuple[int, int, float | None]],
        *,
        complete_ms: int | None = None,
        unmoved: Mapping[str, int | None] | None = None,
    ) -> None:
        """One commit to samples of (series_id, ts, value), complete up to complete_ms."""
        rows = sorted(samples, key=lambda sample: sample[:2])
        table = Table(self.store, "samples")
        held = table.position("test:0")
        steps = {"test:0": Step(held, (held or 0) + len(rows))}
        if complete_ms is not None:
            name = f"complete:{QUERY}"
            steps[name] = Step(table.position(name), complete_ms)
        schema = table_schema("samples").arrow
        files = []
        if rows:
            columns = [
                pa.array(column, field.type, from_pandas=False)
                for column, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            files.append(write_file(self.store, "samples", pa.table(columns, schema=schema)))
        commit(table, files, transactions=steps, unmoved=unmoved)

    def roll_up(self, tiers: Iterable[Tier] = TIERS) -> None:
        """Closes and repairs all that is due, in some tiers, the finest first."""
        from varve.rollups.task import run_task
        from varve.rollups.tier import TierWorker
        from varve.rollups.tier_plan import TierPlan

        for tier in tiers:
            plan = TierPlan(
                self.store, tier, (QUERY,), grace_ms=0, repair_every_ms=0, repair_keys=1
            )
            worker = TierWorker(plan, ManualClock())
            while (planned := worker.plan()) is not None:
                files = [run_task(task) for task in planned.tasks]
                worker.commit(planned, [file for file in files if file is not None])


def definition_rows(definitions: Iterable[SeriesDefinition], seen_ms: int = 0) -> pa.Table:
    """Rows of the table series."""
    rows = [
        {
            "series_id": d.series_id,
            "check": d.check,
            "metric": d.metric,
            "tags": dict(d.tags),
            "type": d.type,
            "unit": d.unit,
            "help": d.help,
            "first_seen": seen_ms,
            "last_seen": seen_ms,
        }
        for d in sorted(definitions, key=lambda d: d.series_id)
    ]
    return pa.Table.from_pylist(rows, table_schema("series").arrow)
