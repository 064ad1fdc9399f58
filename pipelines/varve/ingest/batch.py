"""The driver's side of a batch: one commit of its files, positions and accounting.

In a batch the samples' commit decides; the quarantine's follows it, and a start completes one
that a crash has kept back. What a query stores may be histograms or exemplars in place of samples.
Sources: docs/adr/0006 and 0007.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from varve.ingest.completeness import Completeness
from varve.ingest.log_truncation import stored_epochs
from varve.ingest.outcome import Outcome
from varve.ingest.quarantine_writer import noted_files
from varve.ingest.start_offsets import Start
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.errors import Conflict, NeedsOperator
from varve.model.record_rows import table_of
from varve.model.window import MINUTE_MS
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile, adopted
from varve.storage.log import entries, list_versions
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

# Completeness alone is committed this long after it was stored last: rules wait for a query of
# samples that idles, too, and an answer says at most so much less of itself than could be said.
IDLE_EVERY_MS = 4_000
# Nobody waits for those of other tables.
RECORDS_IDLE_EVERY_MS = 30_000


class SeriesTrimmed(Conflict):
    """Series were condemned since a batch was begun, perhaps some that it has samples of: it has to
    be judged again.
    """


class BatchCommitter:
    """Commits the batches of one query. Its methods may be called from two threads: the one that
    runs batches and the one that notes completeness.

    State: `_complete_ms` is the time up to which everything is known to be stored. The table has
    it, or will have it by the next commit; an idle query commits it alone only where that lets a
    1m window close, or every 30 s.
    """

    def __init__(
        self,
        store: Store,
        query: str,
        starts: Mapping[Partition, Start],
        *,
        grace_ms: int = 10_000,
    ) -> None:
        """grace_ms: how long rollups leave a window open after its input is complete."""
        self.query = query
        self._grace_ms = grace_ms
        self._store = store
        self._samples = Table(store, table_of(query))
        self._quarantine = Table(store, "quarantine")
        self._starts = dict(starts)
        self._completeness = Completeness()
        self._lock = threading.Lock()
        self._complete_ms = self._samples.position(positions.complete(query))
        self._finish_last_batch()

    def note(self, at_ms: int, ends: Mapping[Partition, int]) -> None:
        """Notes the partitions' end offsets as of at_ms (read before them). If all is stored up
        to an earlier note already, and it is time to say so, a commit of its own does.
        """
        with self._lock:
            self._completeness.note(at_ms, ends)
            self._reach(self._positions())
            if self._is_due():
                self._commit_completeness()

    def finish(self) -> None:
        """Says how far input is complete, whether or not it is time to: at the end."""
        with self._lock:
            self._commit_completeness()

    def begin(self) -> Mapping[str, int | None]:
        """What the samples of a batch rely on as `unmoved`. To be called before it is looked up
        which series are registered.
        """
        with self._lock:
            self._samples.refresh()
            return {positions.trim(): self._samples.position(positions.trim())}

    def commit(
        self,
        ranges: Mapping[Partition, OffsetRange],
        outcomes: Sequence[Outcome],
        epochs: Mapping[Partition, int] | None = None,
        unmoved: Mapping[str, int | None] | None = None,
    ) -> dict[str, Any]:
        """Commits a batch that read `ranges`; returns its accounting, without its files.

        epochs: the leader epoch of each partition while it was read. unmoved: of `begin`; None if
        it has no samples. Raises SeriesTrimmed if that has moved, Conflict if another driver has
        read one of the ranges: nothing was written.
        """
        with self._lock:
            self._samples.refresh()
            last = self._samples.position(positions.batch(self.query))
            number = self._next_number(last)
            steps = {positions.batch(self.query): Step(last, number)}
            starts = self._starts.copy()
            gaps = {}
            for partition, read in ranges.items():
                # A partition that was added while we run is read from its first message on.
                start = starts.get(partition, Start(None, read.start))
                if start.offset != read.start:
                    raise Conflict(
                        f"{partition} was read from {read.start}, but is stored up to"
                        f" {start.offset}"
                    )
                # A position stays where it is while what is before it is read again.
                position = max(read.end, start.stored or 0)
                starts[partition] = Start(position, read.end)
                steps[partition.position(self.query)] = Step(start.stored, position)
                if epochs is not None and partition in epochs and position == read.end:
                    steps |= self._epoch_step(partition, epochs[partition])
            for partition, start in self._starts.items():
                if not start.gap:
                    continue
                # Also if the partition has nothing to read: nothing else would tell of the gap.
                gaps[partition] = start.gap
                if partition not in ranges:
                    starts[partition] = Start(start.offset, start.offset)
                    steps[partition.position(self.query)] = Step(start.stored, start.offset)
            refused = [f for o in outcomes for f in o.quarantine]
            if refused:
                owed = positions.rejects(self.query)
                steps[owed] = Step(self._samples.position(owed), number)
            before_ms = self._complete_ms
            self._reach({p: s.offset for p, s in starts.items()})
            accounting = _accounting(self.query, number, ranges, outcomes, gaps)
            metadata = accounting | {"quarantine": [asdict(f) for f in refused]}
            try:
                files = [f for o in outcomes for f in o.files]
                self._commit_samples(files, steps, metadata, unmoved or {})
            except BaseException:
                self._complete_ms = before_ms  # what would be stored by then is not
                raise
            self._starts = starts
            self._commit_rejects(number, refused)
            return accounting

    def state(self) -> tuple[dict[Partition, int], int | None]:
        """Next offset to read of each partition, and up to when input is complete (ms)."""
        with self._lock:
            return self._positions(), self._complete_ms

    def epochs(self) -> dict[Partition, int]:
        """The leader epoch that is stored with the position of each partition. Without partitions
        that are read again because their log was cut: those positions are of before.
        """
        with self._lock:
            whole = [p for p, s in self._starts.items() if (s.stored or 0) <= s.offset]
            return stored_epochs(self._samples, self.query, whole)

    def _next_number(self, last: int | None) -> int:
        """The number of the next batch, above those that samples and quarantine have: either may
        have been restored without the other.
        """
        rejects = self._quarantine.position(positions.rejects(self.query))
        return 1 + max(-1 if n is None else n for n in (last, rejects))

    def _positions(self) -> dict[Partition, int]:
        return {partition: start.offset for partition, start in self._starts.items()}

    def _reach(self, stored: Mapping[Partition, int]) -> None:
        """Moves completeness on to what the positions have reached. A clock that was set back does
        not set it back.
        """
        reached = self._completeness.reached(stored)
        if reached is not None:
            self._complete_ms = max(reached, self._complete_ms or 0)

    def _is_due(self) -> bool:
        """Whether completeness is worth a commit of its own."""
        stored = self._samples.position(positions.complete(self.query))
        if self._complete_ms is None or stored is None:
            return self._complete_ms is not None
        closable = [(at - self._grace_ms) // MINUTE_MS for at in (stored, self._complete_ms)]
        every_ms = IDLE_EVERY_MS if self._samples.name == "samples" else RECORDS_IDLE_EVERY_MS
        return self._complete_ms - stored >= every_ms or closable[1] > closable[0]

    def _epoch_step(self, partition: Partition, epoch: int) -> dict[str, Step]:
        name = partition.epoch_position(self.query)
        stored = self._samples.position(name)
        return {name: Step(stored, epoch if stored is None else max(stored, epoch))}

    def _complete_step(self) -> dict[str, Step]:
        """The step to what is known to be complete; none if the table says so already."""
        name = positions.complete(self.query)
        stored = self._samples.position(name)
        if self._complete_ms is None or self._complete_ms <= (stored or 0):
            return {}
        return {name: Step(stored, self._complete_ms)}

    def _commit_samples(
        self,
        files: Sequence[NewFile],
        steps: Mapping[str, Step],
        metadata: Mapping[str, Any],
        unmoved: Mapping[str, int | None],
    ) -> None:
        """Commits a batch with how far input is complete. A rival that says only the latter does
        not stop it.
        """
        name = positions.complete(self.query)
        while True:
            said_ms = self._samples.position(name)
            try:
                commit(
                    self._samples,
                    files,
                    transactions={**steps, **self._complete_step()},
                    metadata=metadata,
                    unmoved=unmoved,
                )
            except Conflict as err:
                # Nothing was written.
                self._samples.refresh()
                if any(self._samples.position(n) != at for n, at in unmoved.items()):
                    raise SeriesTrimmed(f"{self.query}: {err}") from err
                moved = any(self._samples.position(n) != s.expected for n, s in steps.items())
                if moved or self._samples.position(name) == said_ms:
                    raise
            else:
                return

    def _commit_completeness(self) -> None:
        """Commits how far input is complete, or leaves it to a rival that says so meanwhile: what
        is left unsaid is said with the next batch or note.
        """
        self._samples.refresh()
        if step := self._complete_step():
            try:
                commit(self._samples, [], transactions=step)
            except Conflict as err:
                log.info("%s: completeness is left to a rival: %s", self.query, err)

    def _commit_rejects(self, number: int, files: Sequence[NewFile]) -> None:
        """Commits the rejects of a batch, unless a rival has: one that starts does it if it finds
        them owed.
        """
        if not files:
            return
        name = positions.rejects(self.query)
        self._quarantine.refresh()
        done = self._quarantine.position(name)
        if done is not None and done >= number:
            return
        try:
            commit(self._quarantine, files, transactions={name: Step(done, number)})
        except Conflict:
            self._quarantine.refresh()
            done = self._quarantine.position(name)
            if done is None or done < number:
                raise

    def _finish_last_batch(self) -> None:
        """Commits the rejects of a batch whose driver died between the two commits."""
        name = positions.rejects(self.query)
        owed, done = self._samples.position(name), self._quarantine.position(name)
        if owed is None or (done is not None and done >= owed):
            return
        table = self._samples.name
        for version in reversed(list_versions(self._store, table)):
            (entry,) = entries(self._store, table, version - 1, version)
            if entry.positions.get(name) == owed:
                files = [adopted(self._store, f) for f in noted_files(entry.metadata["quarantine"])]
                self._commit_rejects(owed, files)
                return
        raise NeedsOperator(
            f"{self.query}: the rejects of batch {owed} are not committed, and its commit is no"
            f" longer in the log of {table}: restore the table quarantine, or accept their loss by"
            f" committing the transaction {name} = {owed} to it"
        )


def _accounting(
    query: str,
    number: int,
    ranges: Mapping[Partition, OffsetRange],
    outcomes: Sequence[Outcome],
    gaps: Mapping[Partition, OffsetRange],
) -> dict[str, Any]:
    rejected: Counter[str] = Counter()
    for outcome in outcomes:
        rejected.update(outcome.rejected)
    return {
        "query": query,
        "batch": number,
        "offsets": {f"{p.topic}-{p.number}": [r.start, r.end] for p, r in ranges.items()},
        "gaps": {f"{p.topic}-{p.number}": [r.start, r.end] for p, r in gaps.items()},
        "messages": sum(o.messages for o in outcomes),
        "tombstones": sum(o.tombstones for o in outcomes),
        "bytes": sum(o.bytes for o in outcomes),
        "in": sum(o.received for o in outcomes),
        "stored": sum(o.stored for o in outcomes),
        "merged": sum(o.merged for o in outcomes),
        "rejected": dict(rejected),
        "files": sum(len(o.files) + len(o.quarantine) for o in outcomes),
        "written_bytes": sum(f.size for o in outcomes for f in (*o.files, *o.quarantine)),
    }
