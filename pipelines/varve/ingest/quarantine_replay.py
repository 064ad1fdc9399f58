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

import pyarrow as pa
import pyarrow.compute as pc

from varve.ingest.decoded import Block
from varve.ingest.decoder import Decoder, encoding_of
from varve.ingest.registry import Key, Registry
from varve.ingest.reject_reasons import LIMITS, Reason
from varve.ingest.task import Message, Outcome, TaskPlan, run_task
from varve.model.errors import Conflict, NeedsOperator
from varve.storage import positions
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import NewFile, adopted, write_file
from varve.storage.log import LiveFile, entries, list_versions
from varve.storage.snapshot import Bounds, Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of quarantine: of these reasons, refused at since_ms < rejected_at <= until_ms."""

    reasons: frozenset[Reason]
    since_ms: int = -1
    until_ms: int = (1 << 63) - 1


def replay(store: Store, selection: Selection, plan: TaskPlan, registry: Registry) -> Counter[str]:
    """Judges the rows of the plan's query as if they came now, stores what may be stored, and takes
    them out of quarantine; what is refused again stays there, with its reason of now.

    Returns rows and samples taken, stored, merged and rejected. Of limits only the examples are
    there; the rest stays as a number. Raises Conflict if a rival is at it all the time.
    """
    total: Counter[str] = Counter()
    done: set[str] = set()
    for _ in range(_ATTEMPTS):
        run = _Replay(store, selection, plan, registry)
        try:
            run.finish_last()
            for file in run.files():
                if file.path not in done:
                    total += run.take(file)
                    done.add(file.path)
        except Conflict as err:
            log.info("replay of %s starts over: %s", plan.query, err)
            continue
        return total
    raise Conflict(f"{_ATTEMPTS} attempts to replay quarantine met a rival")


def awaited(store: Store, query: str) -> dict[Key, int]:
    """Series without a definition that have samples in quarantine, and since when (ms)."""
    table, decoder = Table(store, "quarantine", files=True), Decoder()
    since: dict[Key, int] = {}
    snapshot = Snapshot(store, "quarantine", table.version, tuple(live_files(table)))
    for file in snapshot.files:
        rows = snapshot.scan(Bounds(), ["query", "reason", "value"], [file])
        chosen = (pc.field("reason") == Reason.UNKNOWN_SERIES.value) & (pc.field("query") == query)
        first = file.minimum.get("rejected_at", 0)
        for value in rows.filter(chosen).column("value").to_pylist():
            for key in _series_in(value, decoder):
                since[key] = min(since.get(key, first), first)
    return since


class _Replay:
    def __init__(
        self, store: Store, selection: Selection, plan: TaskPlan, registry: Registry
    ) -> None:
        self._store, self._selection, self._registry = store, selection, registry
        registry.known.advance()
        # What is refused again has no other place: all of it is kept.
        self._plan = replace(plan, series_version=registry.known.version, reject_bytes=None)
        self._samples = Table(store, "samples")
        self._quarantine = Table(store, "quarantine", files=True)
        self._decoder = Decoder()
        self._name = positions.replay(plan.query)

    def files(self) -> list[LiveFile]:
        """Files that can hold rows of the selection."""
        return [
            file
            for file in live_files(self._quarantine)
            if file.minimum.get("rejected_at", 0) <= self._selection.until_ms
            and file.maximum.get("rejected_at", 0) > self._selection.since_ms
        ]

    def take(self, file: LiveFile) -> Counter[str]:
        snapshot = Snapshot(self._store, "quarantine", self._quarantine.version, (file,))
        rows = snapshot.scan(Bounds())
        chosen = self._choose(rows)
        taken = rows.filter(chosen)
        if not len(taken):
            return Counter()
        outcome = self._run(taken)
        if not outcome.stored + outcome.merged + len(outcome.definitions):
            return Counter()
        kept = pa.concat_tables(
            [rows.filter(pc.invert(chosen)), _beyond_examples(taken, self._decoder)]
        )
        adds = list(outcome.quarantine)
        if len(kept):
            adds.append(write_file(self._store, "quarantine", kept))
        self._commit(file, outcome, adds)
        counts = {"rows": len(taken), "in": outcome.received, "stored": outcome.stored}
        counts |= {"merged": outcome.merged, "rejected": sum(outcome.rejected.values())}
        return Counter(counts)

    def finish_last(self) -> None:
        """Takes out of quarantine what a replay has stored that died before it could."""
        owed, settled = self._samples.position(self._name), self._quarantine.position(self._name)
        if owed is None or (settled is not None and settled >= owed):
            return
        for version in reversed(list_versions(self._store, "samples")):
            (entry,) = entries(self._store, "samples", version - 1, version)
            if entry.positions.get(self._name) == owed:
                self._settle(owed, entry.metadata)
                return
        raise NeedsOperator(
            f"replay {owed} of {self._plan.query} is no longer in the log of samples: restore the"
            f" table quarantine, or commit the transaction {self._name} = {owed} to it"
        )

    def _choose(self, rows: pa.Table) -> pa.ChunkedArray:
        selection = self._selection
        reasons = pa.array([reason.value for reason in selection.reasons])
        chosen = pc.and_(
            pc.and_(pc.is_in(rows["reason"], reasons), pc.equal(rows["query"], self._plan.query)),
            pc.and_(
                pc.greater(rows["rejected_at"], selection.since_ms),
                pc.less_equal(rows["rejected_at"], selection.until_ms),
            ),
        )
        chosen = pc.and_(chosen, pc.is_valid(rows["value"]))
        # Those that still wait for a definition are left as they are.
        waits = [
            reason == Reason.UNKNOWN_SERIES.value
            and wanted
            and not self._registry.knows_any(sorted(_series_in(value, self._decoder)))
            for wanted, reason, value in zip(
                chosen.to_pylist(),
                rows["reason"].to_pylist(),
                rows["value"].to_pylist(),
                strict=True,
            )
        ]
        return pc.and_(chosen, pc.invert(pa.array(waits, pa.bool_())))

    def _run(self, rows: pa.Table) -> Outcome:
        messages = [
            Message(
                r["topic"],
                r["partition"],
                r["offset"],
                r["ts"] or 0,
                r["value"],
                encoding_of(r["value"]),
            )
            for r in rows.to_pylist()
        ]
        (outcome,) = run_task(messages, self._plan)
        refused = self._registry.register(outcome.definitions, self._plan.limits)
        if not refused:
            return outcome
        version = self._registry.known.version
        (outcome,) = run_task(
            messages, replace(self._plan, refused=refused, settled=True, series_version=version)
        )
        return outcome

    def _commit(self, file: LiveFile, outcome: Outcome, adds: list[NewFile]) -> None:
        held, settled = self._samples.position(self._name), self._quarantine.position(self._name)
        number = 1 + max(-1 if n is None else n for n in (held, settled))
        metadata = {
            "query": self._plan.query,
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
        commit(self._samples, outcome.files, transactions={self._name: step}, metadata=metadata)
        try:
            self._settle(number, metadata)
        except Conflict:
            # A rival that began meanwhile finishes what it finds begun: then it is done, and ours.
            self._quarantine.refresh()
            settled = self._quarantine.position(self._name)
            if settled is None or settled < number:
                raise

    def _settle(self, number: int, metadata: Mapping[str, Any]) -> None:
        self._quarantine.refresh()
        step = Step(self._quarantine.position(self._name), number)
        taken = metadata["taken"]
        if taken["path"] not in self._quarantine.live_files():
            # Compacted meanwhile: its rows are taken again some day, and merge then. Or expired:
            # then what was refused again has no other place.
            log.warning("quarantine: %s is no longer live; its rows stay", taken["path"])
            again = [adopted(self._store, NewFile(**new)) for new in metadata.get("refused", ())]
            commit(self._quarantine, again, transactions={self._name: step})
            return
        rewrite(
            self._quarantine,
            [adopted(self._store, NewFile(**new)) for new in metadata["quarantine"]],
            [Removal(taken["path"], taken["size"], rows_disappear=True)],
            transactions={self._name: step},
        )


def _series_in(value: bytes | None, decoder: Decoder) -> set[Key]:
    block = _read(value, decoder)
    return set(zip(block.series_ids.tolist(), block.checks.tolist(), strict=True))


def _beyond_examples(taken: pa.Table, decoder: Decoder) -> pa.Table:
    """Of rows that hold examples only, those that tell how many more there were."""
    left = []
    for row in taken.to_pylist():
        if row["reason"] in LIMITS:
            beyond = row["samples"] - len(_read(row["value"], decoder))
            if beyond > 0:
                left.append(row | {"samples": beyond, "value": None})
    return pa.Table.from_pylist(left, schema=taken.schema)


def _read(value: bytes | None, decoder: Decoder) -> Block:
    return decoder.samples(value, len(value or b""))
