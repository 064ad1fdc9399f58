"""The job that gives quarantined samples another chance, by reason and time: after a fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from varve.ingest.limits import LimitsFile
from varve.ingest.plan import IngestPlan, task_plan
from varve.ingest.quarantine_replay import Selection, replay
from varve.ingest.replayed import Replayed
from varve.ingest.series_registry import SeriesRegistry
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ReplayWork:
    """The rows of quarantine that a replay looks at."""

    selection: Selection
    now_ms: int
    samples: Mapping[str, Mapping[str, int]]
    """Samples in those rows, by ingest query and reason."""

    def as_json(self) -> Mapping[str, Any]:
        return {"samples": {query: dict(reasons) for query, reasons in self.samples.items()}}

    def lines(self) -> Iterable[str]:
        for query, reasons in self.samples.items():
            found = ", ".join(f"{n:,} {reason}" for reason, n in reasons.items())
            yield f"{query}: {found or 'no samples of these reasons and times'} in quarantine"


@dataclass(frozen=True, slots=True)
class ReplayDone:
    """What replays came to, by ingest query."""

    replayed: Mapping[str, Replayed]

    def as_json(self) -> Mapping[str, Any]:
        return {query: counts.as_json() for query, counts in self.replayed.items()}

    def lines(self) -> Iterable[str]:
        for query, counts in self.replayed.items():
            yield f"{query}: {counts.stored:,} samples stored, {counts.merged:,} merged as copies"
            for reason, samples in sorted((counts.rejected + counts.waiting).items()):
                yield f"{query}: {samples:,} samples stay in quarantine: {reason}"


class ReplayQuarantine:
    """Judges rows of quarantine as if they came now, and stores what may be stored."""

    name: ClassVar[str] = "replay_quarantine"
    tables: ClassVar[tuple[str, ...]] = ("quarantine",)

    def __init__(self, plans: Sequence[IngestPlan], selection: Selection) -> None:
        """plans: the ingest queries whose rows are replayed."""
        self._plans, self._selection = plans, selection

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> ReplayWork:
        """Selects what had been refused by now_ms: what is refused later is for the next run."""
        until_ms = min(self._selection.until_ms, now_ms)
        selection = replace(self._selection, until_ms=until_ms)
        quarantine = snapshots["quarantine"]
        files = [file for file in quarantine.files if selection.may_hold(file)]
        columns = ["query", "reason", "samples", "rejected_at"]
        rows = quarantine.scan(Bounds(), columns, files)
        rows = rows.filter(selection.rows(rows))
        found = {plan.query: _by_reason(rows, plan.query) for plan in self._plans}
        return ReplayWork(selection, now_ms, found)

    def run(self, work: ReplayWork) -> ReplayDone:
        """Raises Conflict if a rival replays the same rows all the time."""
        replayed = {}
        for plan in self._plans:
            if not work.samples[plan.query]:
                replayed[plan.query] = Replayed()
                continue
            registry = SeriesRegistry(plan.store, plan.tasks.scratch, plan.active_ms)
            limits = LimitsFile(plan.limits_files).current()
            tasks = task_plan(plan.tasks, registry, work.now_ms, limits)
            replayed[plan.query] = replay(work.selection, tasks, registry)
        return ReplayDone(replayed)


def _by_reason(rows: pa.Table, query: str) -> Mapping[str, int]:
    own = rows.filter(pc.equal(rows["query"], query))
    counted: Counter[str] = Counter()
    for reason, samples in zip(own["reason"].to_pylist(), own["samples"].to_pylist(), strict=True):
        counted[reason] += samples
    return dict(sorted(counted.items()))
