"""The batch job: checks a range of the tables, notes the results, tells of what is not as expected.

Results are rows of the table quality. An alert fires for each expectation that is not met and ends
with the first run that meets it; the state of the run before is read from the table. So a run that
has written its results and could not tell of them raises, and the next one tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from varve.maintenance.quality.facts import Sampling, all_facts
from varve.maintenance.quality.suites import Judgement, Thresholds, judge
from varve.model.alert_event import NAME_LABEL, AlertEvent
from varve.model.clock import utc_text
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, TIERS, Window
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

ALERT = "VarveQualityExpectationFailed"

FRONTIER_BOUNDS_S = {"1m": 300.0, "5m": 900.0, "1h": 7_200.0, "1d": 90_000.0}
"""How old a tier's frontier may be, seconds: as of VarveRollupBehind in conf/alerts.yml."""

_TABLES = ("samples", "series", *(tier.table for tier in TIERS))
_LOOK_BACK_MS = 30 * DAY_MS

Tell = Callable[[Sequence[AlertEvent], Sequence[Judgement], int], None]
"""Sends alert events, and results as metrics of a time; raises TemporaryError if it cannot."""


@dataclass(frozen=True, slots=True)
class DueCheck:
    """What will be looked at."""

    sampling: Sampling
    snapshots: Mapping[str, Snapshot]

    def as_json(self) -> Mapping[str, Any]:
        window = self.sampling.window
        return {
            "start_ms": window.start_ms,
            "end_ms": window.end_ms,
            "seed": self.sampling.seed,
            "versions": {name: held.version for name, held in self.snapshots.items()},
        }

    def lines(self) -> Iterable[str]:
        window = self.sampling.window
        yield (
            f"rows from {utc_text(window.start_ms)} to {utc_text(window.end_ms)},"
            f" {self.sampling.rows:,} of a table at random, seed {self.sampling.seed}"
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. docs: the page about it."""

    judgements: tuple[Judgement, ...]
    fired: int
    resolved: int
    docs: str | None

    @property
    def failed(self) -> list[Judgement]:
        return [judgement for judgement in self.judgements if not judgement.success]

    def as_json(self) -> Mapping[str, Any]:
        return {
            "expectations": len(self.judgements),
            "failed": [asdict(judgement) for judgement in self.failed],
            "fired": self.fired,
            "resolved": self.resolved,
            "docs": self.docs,
        }

    def lines(self) -> Iterable[str]:
        for j in self.failed:
            where = f" of {j.column_name}" if j.column_name else ""
            yield f"{j.suite}: {j.expectation}{where} is not met: {j.observed}"
        yield f"{len(self.judgements)} expectations, {len(self.failed)} not met"
        if self.docs:
            yield f"pages about it: {self.docs}"


class QualityCheck:
    """The job itself."""

    name: ClassVar[str] = "check_quality"
    tables: ClassVar[tuple[str, ...]] = _TABLES

    def __init__(
        self,
        store: Store,
        thresholds: Thresholds,
        tell: Tell,
        *,
        rows: int,
        hours: int,
        window: Window | None = None,
        seed: int | None = None,
        docs: Path | None = None,
    ) -> None:
        """window: the range to check; None for the last day up to the frontier of 1m. seed: of what
        is drawn at random; None for the range's end.
        """
        self._store, self._thresholds, self._tell = store, thresholds, tell
        self._rows, self._hours, self._window = rows, hours, window
        self._seed, self._docs = seed, docs

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueCheck:
        window = self._window
        if window is None:
            tier = TIERS[0]
            frontier = Table(self._store, tier.table).position(positions.frontier(tier.name))
            end = now_ms if frontier is None else min(now_ms, frontier)
            window = Window(end - DAY_MS, end)
        seed = window.end_ms if self._seed is None else self._seed
        return DueCheck(Sampling(window, now_ms, seed, self._rows, self._hours), snapshots)

    def run(self, work: DueCheck) -> Checked:
        """Raises TemporaryError if the results are stored and nobody could be told."""
        sampling, window = work.sampling, work.sampling.window
        facts = all_facts(self._store, work.snapshots, sampling, FRONTIER_BOUNDS_S, _TABLES)
        found = judge(facts, (window.start_ms, window.end_ms), self._thresholds, self._docs)
        create_tables(self._store, ("quality",))
        before = _failing(self._store, sampling.now_ms)
        events = _events(found, before, sampling.now_ms)
        _store_results(self._store, found, sampling)
        self._tell(events, found, sampling.now_ms)
        page = None if self._docs is None else str(self._docs / "index.html")
        fired = sum(event.state == "firing" for event in events)
        return Checked(tuple(found), fired, len(events) - fired, page)


def _key(suite: str, expectation: str, column: str | None) -> tuple[str, str, str]:
    return suite, expectation, column or ""


def _failing(store: Store, now_ms: int) -> dict[tuple[str, str, str], int]:
    """Expectations that the last run did not meet, and since when not, Unix ms."""
    rows = snapshot(store, "quality").scan(Bounds(now_ms - _LOOK_BACK_MS, now_ms - 1)).to_pylist()
    since: dict[tuple[str, str, str], int] = {}
    for row in sorted(rows, key=lambda row: row["checked_at"]):
        key = _key(row["suite"], row["expectation"], row["column_name"])
        if row["success"]:
            since.pop(key, None)
        else:
            since.setdefault(key, row["checked_at"])
    return since


def _events(
    found: Sequence[Judgement], before: Mapping[tuple[str, str, str], int], now_ms: int
) -> list[AlertEvent]:
    events = []
    for j in found:
        key = _key(j.suite, j.expectation, j.column_name)
        if j.success and key not in before:
            continue
        labels = {NAME_LABEL: ALERT, "suite": j.suite, "expectation": j.expectation}
        labels |= {"severity": "warning"} | ({"column": j.column_name} if j.column_name else {})
        summary = f"{j.suite}: {j.expectation} of {j.column_name or 'the table'}"
        events.append(
            AlertEvent(
                labels,
                "resolved" if j.success else "firing",
                min(before.get(key, now_ms), now_ms),
                now_ms,
                {"summary": summary, "description": j.observed or ""},
                None if j.unexpected is None else float(j.unexpected),
            )
        )
    return events


def _store_results(store: Store, found: Sequence[Judgement], sampling: Sampling) -> None:
    window = sampling.window
    common = {
        "checked_at": sampling.now_ms,
        "start_ms": window.start_ms,
        "end_ms": window.end_ms,
    }
    rows = [common | asdict(judgement) for judgement in found]
    table = Table(store, "quality")
    held = table.position("quality")
    schema = table_schema("quality").arrow
    file = write_file(store.alone, "quality", pa.Table.from_pylist(rows, schema))
    commit(table, [file], transactions={"quality": Step(held, 0 if held is None else held + 1)})
