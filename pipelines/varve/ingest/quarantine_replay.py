"""Quarantined samples once more: after a fix, or when the definition they waited for has come.

The samples' commit decides, as in a batch: it moves `replay:<query>` and names the quarantine file
whose rows it has taken and those that take its place. The quarantine's commit follows; the next
replay completes one that a crash has kept back. So each row is taken once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varve.ingest import definition_files
from varve.ingest.decoded import Block
from varve.ingest.decoder import Decoder, encoding_headers
from varve.ingest.outcome import Outcome
from varve.ingest.plan import TaskPlan, after_registration
from varve.ingest.quarantine_writer import noted_files
from varve.ingest.reject_reasons import LIMITS, Reason
from varve.ingest.replayed import Replayed
from varve.ingest.series_registry import SeriesRegistry
from varve.ingest.task import run_task
from varve.kafka.message import Headers, Message
from varve.model.errors import Conflict, NeedsOperator
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import NewFile, adopted, write_file
from varve.storage.log import LiveFile, entries, list_versions
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.table import Table

log = logging.getLogger(__name__)

_ATTEMPTS = 20
ONLY_COUNTED = "only their number was kept"


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of quarantine: of these reasons, refused at since_ms < rejected_at <= until_ms, in files
    of these paths (None: in all).
    """

    reasons: frozenset[Reason]
    since_ms: int = -1
    until_ms: int = (1 << 63) - 1
    paths: frozenset[str] | None = None

    def may_hold(self, file: LiveFile) -> bool:
        """Whether a file of quarantine can hold rows of the selection."""
        if self.paths is not None and file.path not in self.paths:
            return False
        oldest, newest = file.minimum.get("rejected_at", 0), file.maximum.get("rejected_at", 0)
        return oldest <= self.until_ms and newest > self.since_ms

    def rows(self, rows: pa.Table) -> pa.ChunkedArray:
        """Which of the rows are of the selection, by their reason and rejected_at."""
        reasons = pa.array([reason.value for reason in self.reasons])
        at = rows["rejected_at"]
        in_time = pc.and_(pc.greater(at, self.since_ms), pc.less_equal(at, self.until_ms))
        return pc.and_(pc.is_in(rows["reason"], reasons), in_time)


def replay(selection: Selection, plan: TaskPlan, registry: SeriesRegistry) -> Replayed:
    """Judges the rows of the plan's query as if they came now, stores what may be stored, and takes
    it out of quarantine; what is refused again stays there, with its reason of now.

    Limits keep only examples of the samples they refuse; the others stay as a number. Raises
    Conflict if a rival replays the same rows all the time.
    """
    total = Replayed()
    done: set[str] = set()
    for _ in range(_ATTEMPTS):
        run = _Replay(selection, plan, registry)
        try:
            run.finish_last()
            for file in run.files():
                if file.path not in done:
                    total.add(run.take(file))
                    done.add(file.path)
        except Conflict as err:
            log.info("replay of %s starts over: %s", plan.settings.query, err)
            continue
        return total
    raise Conflict(f"{_ATTEMPTS} attempts to replay quarantine met a rival")


class _Replay:
    """One attempt, on the tables as they are."""

    def __init__(self, selection: Selection, plan: TaskPlan, registry: SeriesRegistry) -> None:
        self._store, self._selection, self._registry = plan.settings.store, selection, registry
        self._samples = Table(self._store, plan.settings.table)
        # Before it is looked up which series are registered.
        self._unmoved = {positions.trim(): self._samples.position(positions.trim())}
        registry.index.advance()
        # What is refused again has no other place: all of it is kept.
        self._plan = replace(plan, series_version=registry.index.version, keep_all_rejects=True)
        self._quarantine = Table(self._store, "quarantine", files=True)
        self._decoder = Decoder()
        self._name = positions.replay(plan.settings.query)

    def files(self) -> list[LiveFile]:
        """Files that can hold rows of the selection."""
        return [f for f in live_files(self._quarantine) if self._selection.may_hold(f)]

    def take(self, file: LiveFile) -> Replayed:
        """Replays the rows of one file, in one commit of each table, if any can be stored."""
        snapshot = Snapshot(self._store, "quarantine", self._quarantine.version, (file,))
        rows = snapshot.scan(Bounds())
        selected = pc.and_(
            self._selection.rows(rows), pc.equal(rows["query"], self._plan.settings.query)
        )
        readable = pc.and_(selected, pc.is_valid(rows["value"]))
        chosen = pc.and_(readable, pc.invert(self._awaits(rows, readable)))
        waiting = _waiting(rows.filter(pc.and_(selected, pc.invert(chosen))))
        taken = rows.filter(chosen)
        if not len(taken):
            return Replayed(waiting=waiting)
        outcome = self._run(taken)
        rejected = Counter(outcome.rejected)
        if not outcome.stored + outcome.merged + outcome.new_series:
            return Replayed(rejected=rejected, waiting=waiting)
        beyond = _beyond_examples(taken, self._decoder)
        kept = pa.concat_tables([rows.filter(pc.invert(chosen)), beyond])
        adds = list(outcome.quarantine)
        if len(kept):
            adds.append(write_file(self._store, "quarantine", kept))
        self._commit(file, outcome, adds)
        waiting.update(_waiting(beyond))
        return Replayed(outcome.stored, outcome.merged, rejected, waiting)

    def finish_last(self) -> None:
        """Takes out of quarantine what a replay has stored that died before it could."""
        owed, done = self._samples.position(self._name), self._quarantine.position(self._name)
        if owed is None or (done is not None and done >= owed):
            return
        table = self._samples.name
        for version in reversed(list_versions(self._store, table)):
            (entry,) = entries(self._store, table, version - 1, version)
            if entry.positions.get(self._name) == owed:
                self._commit_quarantine(owed, entry.metadata)
                return
        raise NeedsOperator(
            f"replay {owed} of {self._plan.settings.query} is no longer in the log of {table}:"
            f" restore the table quarantine, or commit the transaction {self._name} = {owed} to it"
        )

    def _awaits(self, rows: pa.Table, chosen: pa.ChunkedArray) -> pa.Array:
        """Which of the chosen rows still wait for the definition of all of their series."""
        waits = [
            wanted
            and reason == Reason.UNKNOWN_SERIES.value
            and not self._registry.has_any(
                series_ids_in(value, self._decoder) if ids is None else ids
            )
            for wanted, reason, value, ids in zip(
                chosen.to_pylist(),
                rows["reason"].to_pylist(),
                rows["value"].to_pylist(),
                rows["series_ids"].to_pylist(),
                strict=True,
            )
        ]
        return pa.array(waits, pa.bool_())

    def _run(self, rows: pa.Table) -> Outcome:
        messages = [
            Message(
                r["topic"],
                r["partition"],
                r["offset"],
                r["ts"] or 0,
                r["value"],
                _headers(r),
            )
            for r in rows.to_pylist()
        ]
        (outcome,) = run_task(messages, self._plan)
        limits = self._plan.limits
        refused = definition_files.register(self._registry, self._store, [outcome], limits)
        definition_files.remove(self._store, [outcome])
        if not refused:
            return outcome
        (outcome,) = run_task(messages, after_registration(self._plan, self._registry, refused))
        return outcome

    def _commit(self, file: LiveFile, outcome: Outcome, adds: list[NewFile]) -> None:
        held, done = self._samples.position(self._name), self._quarantine.position(self._name)
        number = 1 + max(-1 if n is None else n for n in (held, done))
        metadata = {
            "query": self._plan.settings.query,
            "replay": number,
            "in": outcome.received,
            "stored": outcome.stored,
            "merged": outcome.merged,
            "rejected": outcome.rejected,
            "taken": {"path": file.path, "size": file.size},
            "refused": [asdict(new) for new in outcome.quarantine],
            "quarantine": [asdict(new) for new in adds],
        }
        step = Step(held, number)
        commit(
            self._samples,
            outcome.files,
            transactions={self._name: step},
            metadata=metadata,
            unmoved=self._unmoved,
        )
        try:
            self._commit_quarantine(number, metadata)
        except Conflict:
            # A rival that began meanwhile finishes what it finds begun: then it is done, and ours.
            self._quarantine.refresh()
            done = self._quarantine.position(self._name)
            if done is None or done < number:
                raise

    def _commit_quarantine(self, number: int, metadata: Mapping[str, Any]) -> None:
        self._quarantine.refresh()
        step = Step(self._quarantine.position(self._name), number)
        taken = metadata["taken"]
        if taken["path"] not in self._quarantine.live_files():
            # Compacted meanwhile: its rows are taken again some day, and merge then. Or expired:
            # then what was refused again has no other place.
            log.warning("quarantine: %s is no longer live; its rows stay", taken["path"])
            again = [adopted(self._store, new) for new in noted_files(metadata.get("refused", ()))]
            commit(self._quarantine, again, transactions={self._name: step})
            return
        rewrite(
            self._quarantine,
            [adopted(self._store, new) for new in noted_files(metadata["quarantine"])],
            [Removal(taken["path"], taken["size"], rows_disappear=True)],
            transactions={self._name: step},
        )


def _headers(row: Mapping[str, Any]) -> Headers:
    """The headers of a row's message. Earlier releases did not keep them."""
    if row["headers"] is None:
        return encoding_headers(row["value"])
    return [(header["name"], header["value"]) for header in row["headers"]]


def series_ids_in(value: bytes | None, decoder: Decoder) -> list[int]:
    """The series of the samples in a value of quarantine, each once."""
    ids: list[int] = np.unique(_read(value, decoder).series_ids).tolist()
    return ids


def _waiting(rows: pa.Table) -> Counter[str]:
    """Samples of rows that are not judged, by why."""
    waiting: Counter[str] = Counter()
    for reason, samples, value in zip(
        rows["reason"].to_pylist(),
        rows["samples"].to_pylist(),
        rows["value"].to_pylist(),
        strict=True,
    ):
        waiting[ONLY_COUNTED if value is None else reason] += samples
    return waiting


def _beyond_examples(taken: pa.Table, decoder: Decoder) -> pa.Table:
    """For rows that hold examples only, rows that tell how many more samples there were."""
    left = []
    for row in taken.to_pylist():
        if row["reason"] in LIMITS:
            beyond = row["samples"] - len(_read(row["value"], decoder))
            if beyond > 0:
                left.append(row | {"samples": beyond, "value": None})
    return pa.Table.from_pylist(left, schema=taken.schema)


def _read(value: bytes | None, decoder: Decoder) -> Block:
    return decoder.samples(value, len(value or b""))
