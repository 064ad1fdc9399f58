"""One task of a batch: messages in, files of samples out, and a description of what happened.

The files are in no commit yet. The driver registers the new series, then commits all at once;
a task that is run again writes other files and the first ones are never committed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.ingest import arrow_codec
from varve.ingest.age_limits import Ages, Ids, Members
from varve.ingest.decoded import Block, Reject, concatenate
from varve.ingest.decoder import Decoder
from varve.ingest.limits import Limits
from varve.ingest.reject_reasons import LIMITS, Reason
from varve.ingest.rejects import Message, Rejects
from varve.ingest.series_id_index import CONTESTED, KNOWN, UNKNOWN, KnownSeries
from varve.model import copies
from varve.model.identity import SeriesDefinition
from varve.model.staleness import to_column
from varve.storage.files import NewFile, write_file
from varve.storage.store import Store

__all__ = ["Key", "Message", "Outcome", "TaskPlan", "run_task"]

Key = tuple[int, int]
"""(series_id, check) of a series."""

# A task writes what it holds whenever it holds this much: bounds its memory, at about 150 MB for
# samples as producers send them, at a few times HELD_BYTES for whatever else comes.
HELD_SAMPLES = 2_000_000
HELD_BYTES = 256 * 2**20
HELD_REJECT_BYTES = 32 * 2**20
# Samples beyond a limit that are kept of each partition and reason.
EXAMPLES = 100
# Series without a definition that a task names to the driver, who may know them from another task.
NAMED_UNDEFINED = 10_000

# Verdict on a sample: its reason, or that it is stored.
_STORED = 0
_NUMBERS = {reason: n for n, reason in enumerate(Reason, _STORED + 1)}
_REASONS = {n: reason for reason, n in _NUMBERS.items()}
_NEVER = np.iinfo(np.int64).max
_DETAILS = {
    Reason.TOO_OLD: "before {oldest_ms}, from where on samples expire before they surely are in the"
    " rollups, or older than limits.toml allows the metric",
    Reason.TOO_FAR_IN_FUTURE: "after {newest_ms}, or further ahead than limits.toml allows the"
    " metric: check the producer's clock",
    Reason.ID_COLLISION: "another series has this id: change a label to tell them apart",
    Reason.UNKNOWN_SERIES: "no definition of the series has come",
    Reason.LABEL_LIMIT: "new series with more or longer labels than limits.toml allows",
    Reason.CARDINALITY_LIMIT: "new series beyond the number that limits.toml allows",
}


@dataclass(frozen=True)
class TaskPlan:
    """What a task needs to know; pickled to it.

    Samples are stored if oldest_ms <= ts <= newest_ms, unless limits say other of their metric;
    those with ts < late_ms go to a file of their own. definition_topics: topics whose messages
    define series and hold no samples. refused: series that must not be stored, and why. settled:
    what the batch defines has been registered, or refused, already: nothing is new any more. full:
    metrics that can have no new series.
    """

    store: Store
    query: str
    now_ms: int
    oldest_ms: int
    newest_ms: int
    late_ms: int
    max_message_bytes: int
    series_version: int
    definition_topics: frozenset[str] = frozenset()
    refused: Mapping[Key, Reason] = field(default_factory=dict)
    settled: bool = False
    limits: Limits = field(default_factory=Limits)
    full: frozenset[str] = frozenset()
    scratch: str = ""
    """Where the machine keeps its files of known series: as in RunFolder."""
    reject_bytes: int | None = 8 * 2**20
    """Of rejects that are kept whole of a partition; the rest is counted, and of new series beyond
    a limit there are examples. None: all are kept.
    """


@dataclass
class Outcome:
    """What a task did. received = stored + merged + the sum of rejected. bytes: of the messages'
    values.
    """

    messages: int = 0
    bytes: int = 0
    received: int = 0
    stored: int = 0
    merged: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    files: list[NewFile] = field(default_factory=list)
    quarantine: list[NewFile] = field(default_factory=list)
    definitions: list[tuple[SeriesDefinition, int]] = field(default_factory=list)
    """Of series the task did not know, each with the time of its earliest sample."""
    undefined: list[Key] = field(default_factory=list)
    """Series of which it has samples but no definition; the first NAMED_UNDEFINED."""
    partitions: list[tuple[str, int]] = field(default_factory=list)
    """Topic and number of those it read."""

    def to_json(self) -> str:
        """Fast, as a storm brings hundreds of thousands of definitions."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        return msgspec.json.decode(text, type=cls)


def run_task(messages: Iterable[Message], plan: TaskPlan) -> Iterator[Outcome]:
    """One outcome, or none if there were no messages."""
    task = _Task(plan)
    for message in messages:
        task.take(message)
    if task.outcome.messages:
        yield task.finish()


class _Task:
    """Samples held so far, and the outcome of those written."""

    def __init__(self, plan: TaskPlan) -> None:
        self.outcome = Outcome()
        self._plan = plan
        self._known = _known_series(plan)
        self._partitions: set[tuple[str, int]] = set()
        self._brought: dict[Key, SeriesDefinition] = {}
        self._new: dict[Key, tuple[SeriesDefinition, int]] = {}
        self._named: Counter[str] = Counter()
        self._undefined: dict[Key, None] = {}
        self._rejected: Counter[Reason] = Counter()
        self._rejects = Rejects(sys.maxsize if plan.reject_bytes is None else plan.reject_bytes)
        self._ages = Ages(plan.limits, plan.now_ms, plan.oldest_ms, plan.newest_ms)
        self._start()

    def _start(self) -> None:
        self._origins: list[Message] = []
        self._blocks: list[Block] = []
        self._samples = self._bytes = 0

    def take(self, message: Message) -> None:
        self.outcome.messages += 1
        self.outcome.bytes += len(message.value or b"")
        self._partitions.add((message.topic, message.partition))
        only_defines = message.topic in self._plan.definition_topics
        decode = _decoder.definitions if only_defines else _decoder.samples
        block = decode(message.value, self._plan.max_message_bytes, message.encoding)
        if block.definitions:
            brought = {(d.series_id, d.check): d for d in block.definitions}
            self._brought |= brought
            if only_defines:
                self._announce(brought, message)
        for reject in block.rejects:
            self._reject(message, reject)
        if len(block):
            self._blocks.append(block)
            self._origins.append(message)
            self._samples += len(block)
            self._bytes += _decoder.expanded_bytes
        full = self._samples >= HELD_SAMPLES or self._bytes >= HELD_BYTES
        if full or self._rejects.held_bytes >= HELD_REJECT_BYTES:
            self._write()

    def finish(self) -> Outcome:
        self._write(last=True)
        outcome = self.outcome
        outcome.rejected = {reason.value: n for reason, n in self._rejected.items()}
        outcome.received = outcome.stored + outcome.merged + self._rejected.total()
        outcome.definitions = list(self._new.values())
        outcome.undefined = list(self._undefined)
        outcome.partitions = sorted(self._partitions)
        return outcome

    def _announce(self, brought: Mapping[Key, SeriesDefinition], message: Message) -> None:
        """Series defined ahead of their samples, as of the message's time."""
        ids, checks = np.array(list(brought), np.int64).T
        status = self._known.status(ids, checks.astype(np.int32))
        refused: dict[Reason, list[SeriesDefinition]] = {}
        for (key, definition), known in zip(brought.items(), status.tolist(), strict=True):
            if known == KNOWN:
                continue
            reason = self._refusal(key, definition) if known == UNKNOWN else Reason.ID_COLLISION
            if reason is None:
                self._new.setdefault(key, (definition, message.ts))
            else:
                refused.setdefault(reason, []).append(definition)
        for reason, definitions in refused.items():
            kept = definitions[:EXAMPLES] if self._by_examples(reason) else definitions
            value = arrow_codec.write_definitions(kept)
            detail = _DETAILS[reason].format(**vars(self._plan))
            self._reject(message, Reject(reason, detail, len(definitions), value))

    def _by_examples(self, reason: Reason) -> bool:
        """Whether the refusals for a reason may be a storm, which leaves a number and examples."""
        return reason in LIMITS and self._plan.reject_bytes is not None

    def _reject(self, message: Message, reject: Reject) -> None:
        self._rejects.add(message, reject)
        self._rejected[reject.reason] += reject.samples

    def _write(self, *, last: bool = False) -> None:
        """Stores what is held, and forgets it."""
        samples = concatenate(self._blocks)
        groups = copies.group(samples.series_ids, samples.checks)
        verdicts = self._judge(samples, groups)
        if verdicts is not None:
            self._reject_samples(samples, verdicts)
            samples = samples.take(verdicts == _STORED)
            groups = copies.group(samples.series_ids, samples.checks)
        self._store(samples, groups)
        plan = self._plan
        self.outcome.quarantine += self._rejects.write(
            plan.store, plan.query, plan.now_ms, last=last
        )
        self._start()

    def _judge(self, samples: Block, groups: copies.Groups) -> npt.NDArray[np.uint8] | None:
        """For each sample _STORED or the number of its reason; None: all stored."""
        if not len(samples):
            return None
        oldest, newest = self._time_bounds(samples, groups)
        early, late = samples.ts < oldest, samples.ts > newest
        in_time = ~(early | late)
        of_series = self._judge_series(samples, groups, in_time)
        if in_time.all() and not of_series.any():
            return None
        verdicts = of_series[groups.codes]
        verdicts[early] = _NUMBERS[Reason.TOO_OLD]
        verdicts[late] = _NUMBERS[Reason.TOO_FAR_IN_FUTURE]
        return verdicts

    def _time_bounds(self, samples: Block, groups: copies.Groups) -> tuple[int | Ids, int | Ids]:
        """Oldest and newest time of each sample, or of all."""

        def metric_of(code: int) -> str | None:
            at = int(groups.first[code])
            number = int(np.searchsorted(ends, at, side="right"))
            definition = self._definition(samples, at, number, ends)
            return None if definition is None else definition.metric

        ends = np.cumsum([len(b) for b in self._blocks])
        plan = self._plan
        bounds = self._ages.by_series(
            samples.series_ids[groups.first],
            lambda metric: _members_of(plan).of(metric, plan.series_version),
            metric_of,
        )
        if bounds is None:
            return self._ages.default
        return bounds[0][groups.codes], bounds[1][groups.codes]

    def _definition(
        self, samples: Block, at: int, number: int, ends: npt.NDArray[np.intp]
    ) -> SeriesDefinition | None:
        """Of the series of the sample at a place, in block `number`, if it came with the batch."""
        block = self._blocks[number]
        if block.owners:
            return block.owners[at - int(ends[number]) + len(block)]
        return self._brought.get((int(samples.series_ids[at]), int(samples.checks[at])))

    def _judge_series(
        self, samples: Block, groups: copies.Groups, in_time: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.uint8]:
        """The same for each series. Notes those that are new: of one that has a definition and a
        sample in time, that the driver must register it.
        """
        ids, checks = samples.series_ids[groups.first], samples.checks[groups.first]
        status = self._known.status(ids, checks)
        verdicts = np.zeros(len(ids), np.uint8)
        verdicts[status == CONTESTED] = _NUMBERS[Reason.ID_COLLISION]
        unknown = np.flatnonzero(status == UNKNOWN)
        if not len(unknown):
            return verdicts
        seen = np.full(len(ids), _NEVER)
        np.minimum.at(seen, groups.codes[in_time], samples.ts[in_time])
        ends = np.cumsum([len(b) for b in self._blocks])
        numbers = np.searchsorted(ends, groups.first[unknown], side="right")
        for code, number in zip(unknown.tolist(), numbers.tolist(), strict=True):
            if seen[code] == _NEVER:
                # All of its samples are refused for their time.
                continue
            key = int(ids[code]), int(checks[code])
            definition = self._definition(samples, int(groups.first[code]), number, ends)
            if definition is None:
                verdicts[code] = _NUMBERS[Reason.UNKNOWN_SERIES]
                if len(self._undefined) < NAMED_UNDEFINED:
                    self._undefined[key] = None
            elif (refusal := self._refusal(key, definition)) is not None:
                verdicts[code] = _NUMBERS[refusal]
            else:
                self._brought[key] = definition
                first = self._new.get(key, (definition, _NEVER))[1]
                self._new[key] = definition, min(first, int(seen[code]))
        return verdicts

    def _refusal(self, key: Key, definition: SeriesDefinition) -> Reason | None:
        """Why a new series must not be registered."""
        plan = self._plan
        if key in plan.refused:
            return plan.refused[key]
        limits = plan.limits.of(definition.metric)
        if limits.exceeded_by(definition) is not None:
            return Reason.LABEL_LIMIT
        if plan.settled:
            # It was not named to the registry, and nobody will register it now.
            return Reason.CARDINALITY_LIMIT
        if key in self._new:
            return None
        # The registry decides; what it would surely refuse is not even named to it.
        named = self._named[definition.metric]
        if definition.metric in plan.full or named >= min(limits.series, plan.limits.series):
            return Reason.CARDINALITY_LIMIT
        self._named[definition.metric] += 1
        return None

    def _reject_samples(self, samples: Block, verdicts: npt.NDArray[np.uint8]) -> None:
        """Each message's refused samples as a message that can be sent again, by reason."""
        ends = np.cumsum([len(b) for b in self._blocks])
        for number in np.unique(verdicts[verdicts != _STORED]).tolist():
            reason = _REASONS[number]
            detail = _DETAILS[reason].format(**vars(self._plan))
            at = np.flatnonzero(verdicts == number)
            origins = np.searchsorted(ends, at, side="right")
            if self._by_examples(reason):
                self._reject_storm(reason, samples, at, origins)
                continue
            cuts = np.flatnonzero(np.diff(origins)) + 1
            for origin, part in zip(origins[[0, *cuts]].tolist(), np.split(at, cuts), strict=True):
                message = self._origins[origin]
                full = self._rejects.full(message)
                value = b"" if full else self._message(origin, samples.take(part))
                self._reject(message, Reject(reason, detail, len(part), value))

    def _reject_storm(
        self, reason: Reason, samples: Block, at: npt.NDArray[np.intp], origins: Any
    ) -> None:
        """One row for each partition: the number, the offsets, and some of the samples."""
        by_partition: dict[tuple[str, int], list[int]] = {}
        for place, origin in enumerate(origins.tolist()):
            message = self._origins[origin]
            by_partition.setdefault((message.topic, message.partition), []).append(place)
        for places in by_partition.values():
            first, last = self._origins[origins[places[0]]], self._origins[origins[places[-1]]]
            same = [p for p in places if origins[p] == origins[places[0]]][:EXAMPLES]
            example = self._message(int(origins[places[0]]), samples.take(at[same]))
            detail = f"{_DETAILS[reason]}; offsets {first.offset} to {last.offset}"
            self._reject(first, Reject(reason, detail, len(places), example))

    def _message(self, origin: int, samples: Block) -> bytes:
        keys = dict.fromkeys(zip(samples.series_ids.tolist(), samples.checks.tolist(), strict=True))
        owned = {(d.series_id, d.check): d for d in self._blocks[origin].owners}
        definitions = [
            d for key in keys if (d := owned.get(key) or self._brought.get(key)) is not None
        ]
        columns = [samples.series_ids, samples.checks, samples.ts, to_column(samples.values)]
        table = pa.Table.from_arrays(
            [pa.array(c) for c in columns], schema=arrow_codec.wire_schema("samples")
        )
        return arrow_codec.write(table, definitions)

    def _store(self, samples: Block, groups: copies.Groups) -> None:
        chosen = copies.order(samples.series_ids, samples.ts, samples.values, groups)
        self.outcome.merged += len(samples) - len(chosen)
        self.outcome.stored += len(chosen)
        late = samples.ts[chosen] < self._plan.late_ms
        parts = [chosen] if not late.any() else [chosen[~late], chosen[late]]
        for part in parts:
            if len(part):
                rows = {
                    "series_id": samples.series_ids[part],
                    "ts": samples.ts[part],
                    "value": to_column(samples.values[part]),
                }
                self.outcome.files.append(write_file(self._plan.store, "samples", pa.table(rows)))


# Tasks of one worker process run one after another: they share what takes long to find out.
_decoder = Decoder()
_known: dict[tuple[object, ...], KnownSeries] = {}


def _known_series(plan: TaskPlan) -> KnownSeries:
    key = (plan.store.root, plan.scratch, *sorted(plan.store.options.items()))
    if key not in _known:
        _known[key] = KnownSeries(plan.store, plan.scratch)
    _known[key].advance(plan.series_version)
    return _known[key]


_members: dict[tuple[object, ...], Members] = {}


def _members_of(plan: TaskPlan) -> Members:
    key = (plan.store.root, *sorted(plan.store.options.items()))
    if key not in _members:
        _members[key] = Members(plan.store)
    return _members[key]
