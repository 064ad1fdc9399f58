"""One task of a batch: messages in, files of samples out, and a description of what happened.

The files are in no commit yet. The driver registers the new series, then commits all at once;
a task that is run again writes other files and the first ones are never committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.ingest import arrow_codec, definition_files
from varve.ingest.decoded import Block, Reject
from varve.ingest.decoder import Decoder
from varve.ingest.held_samples import HeldSamples
from varve.ingest.outcome import Outcome
from varve.ingest.plan import TaskPlan, TaskSettings
from varve.ingest.quarantine_writer import QuarantineWriter
from varve.ingest.reject_reasons import LIMITS, Reason
from varve.ingest.series_id_index import SeriesIdIndex, SeriesKey
from varve.ingest.verdicts import STORED, Judge, Refusal, Verdicts
from varve.kafka.message import Message
from varve.model import copies, record_rows
from varve.model.identity import SeriesDefinition
from varve.model.metadata import NOTHING_KNOWN
from varve.model.staleness import to_column
from varve.storage.files import write_file
from varve.storage.matched_series import MatchedSeries

# A task writes what it holds whenever it holds this much: bounds its memory, at about 150 MB for
# samples as producers send them, at a few times HELD_BYTES for whatever else comes.
HELD_SAMPLES = 2_000_000
HELD_BYTES = 256 * 2**20
HELD_REJECT_BYTES = 32 * 2**20
# Messages of one sample each are decoded so many at a time: alone, each takes ten times as long.
# Longer ones gain nothing by it, nor do fewer.
SINGLES = 512
SINGLE_BYTES = 2_048
_FEWEST_SINGLES = 8
# Samples beyond a limit that are kept of each partition and reason.
EXAMPLES = 100


def run_task(messages: Iterable[Message], plan: TaskPlan) -> Iterator[Outcome]:
    """Yields one outcome, or none if there were no messages."""
    task = _Task(plan)
    task.take(messages)
    outcome = task.finish()
    if outcome.messages:
        yield outcome


class _Task:
    """Samples held so far, and the outcome of those written."""

    def __init__(self, plan: TaskPlan) -> None:
        self.outcome = Outcome()
        self._plan = plan
        self._judge = Judge(plan, _index_of(plan), _matched_series(plan.settings))
        self._partitions: set[tuple[str, int]] = set()
        self._rejected: Counter[Reason] = Counter()
        keep_bytes = None if plan.keep_all_rejects else plan.settings.reject_bytes
        self._quarantine = QuarantineWriter(keep_bytes)
        self._held = HeldSamples()

    def take(self, messages: Iterable[Message]) -> None:
        """Decodes messages in their order and holds their samples; writes all that is held
        whenever it is much.
        """
        for may_be_single, run in groupby(messages, self._may_be_single):
            if may_be_single:
                while several := list(islice(run, SINGLES)):
                    self._take_singles(several)
            else:
                for message in run:
                    self._take(message)

    def _may_be_single(self, message: Message) -> bool:
        """Whether a message looks like one that holds one sample, and says nothing of itself."""
        value = message.value
        return (
            value is not None
            and 0 < len(value) <= SINGLE_BYTES
            and not message.headers
            and message.topic not in self._plan.settings.definition_topics
            and _decoder.may_be_single(value)
        )

    def _take_singles(self, several: list[Message]) -> None:
        """Takes messages that are decoded together."""
        waiting = [several]
        while waiting:
            messages = waiting.pop()
            if len(messages) < _FEWEST_SINGLES:
                for message in messages:
                    self._take(message)
                continue
            values = [message.value for message in messages if message.value is not None]
            block = _decoder.singles(values)
            if block is None:
                # One of them is something else: it is found by halves.
                middle = len(messages) // 2
                waiting += [messages[middle:], messages[:middle]]
                continue
            size = sum(map(len, values))
            self.outcome.messages += len(messages)
            self.outcome.bytes += size
            self.outcome.expanded_bytes += size
            self._partitions |= {message[:2] for message in messages}
            self._held.add_singles(messages, block, size)
            self._write_if_much()

    def _take(self, message: Message) -> None:
        settings, held = self._plan.settings, self._held
        self.outcome.messages += 1
        self._partitions.add((message.topic, message.partition))
        if message.value is None:
            self.outcome.tombstones += 1
            return
        self.outcome.bytes += len(message.value)
        only_defines = message.topic in settings.definition_topics
        decode = _decoder.definitions if only_defines else _decoder.samples
        block = decode(message.value, settings.max_message_bytes, message.headers)
        self.outcome.expanded_bytes += _decoder.expanded_bytes
        if block.definitions:
            self._judge.brought.add(block.definitions)
            if only_defines:
                defined = {(d.series_id, d.check): d for d in block.definitions}
                refused = self._judge.definitions(defined, message.ts)
                for refusal, definitions in refused.items():
                    is_storm = self._by_examples(refusal.reason)
                    kept = definitions[:EXAMPLES] if is_storm else definitions
                    value = arrow_codec.write_definitions(kept)
                    self._reject(message, self._refused(refusal, len(definitions), value, kept))
        for metric, said in block.metadata.items():
            known = self.outcome.metadata.get(metric, NOTHING_KNOWN)
            self.outcome.metadata[metric] = known.filled_by(said)
        for reject in block.rejects:
            self._reject(message, reject)
        if block.table != settings.table and len(block):
            detail = f"rows of {block.table}, which are none of {settings.table}: the wrong topic"
            wrong = Reject(Reason.MALFORMED, detail, len(block), message.value, message.headers)
            self._reject(message, wrong)
        elif len(block):
            held.add(message, block, _decoder.expanded_bytes)
        self._write_if_much()

    def finish(self) -> Outcome:
        self._write(last=True)
        outcome, judge = self.outcome, self._judge
        outcome.rejected = {reason.value: n for reason, n in self._rejected.items()}
        outcome.received = outcome.stored + outcome.merged + self._rejected.total()
        if len(judge.new) > definition_files.INLINE:
            rows = judge.new.rows()
            outcome.definition_files = [definition_files.write(self._plan.settings.store, rows)]
        else:
            outcome.definitions = list(judge.new.by_key.values())
        outcome.undefined = list(judge.undefined)
        outcome.partitions = sorted(self._partitions)
        return outcome

    def _by_examples(self, reason: Reason) -> bool:
        """Whether refusals for the reason may be a storm, which leaves a number and examples."""
        return reason in LIMITS and not self._plan.keep_all_rejects

    def _reject(self, message: Message, reject: Reject) -> None:
        self._quarantine.add(message, reject)
        self._rejected[reject.reason] += reject.samples

    def _write_if_much(self) -> None:
        is_much = self._held.samples >= HELD_SAMPLES or self._held.bytes >= HELD_BYTES
        if is_much or self._quarantine.held_bytes >= HELD_REJECT_BYTES:
            self._write()

    def _write(self, *, last: bool = False) -> None:
        """Stores what is held, and forgets it."""
        held, self._held = self._held, HeldSamples()
        samples = held.columns
        groups = copies.group(samples.series_ids, samples.checks)
        verdicts = self._judge.samples(held, groups)
        if verdicts is not None:
            self._reject_samples(held, verdicts)
            samples = samples.take(verdicts == STORED)
            groups = copies.group(samples.series_ids, samples.checks)
        self._store(samples, groups)
        settings = self._plan.settings
        self.outcome.quarantine += self._quarantine.write(
            settings.store, settings.query, self._plan.now_ms, last=last
        )

    def _reject_samples(self, held: HeldSamples, verdicts: Verdicts) -> None:
        """Each message's refused samples as a message that can be sent again, by reason."""
        found = np.unique(verdicts[verdicts != STORED]).tolist()
        refusals = {verdict: self._judge.refusal(verdict) for verdict in found}
        of_reason = Counter(refusal.reason for refusal in refusals.values())
        for verdict, refusal in refusals.items():
            places = np.flatnonzero(verdicts == verdict)
            numbers = held.message_numbers(places)
            if self._by_examples(refusal.reason):
                examples = max(1, EXAMPLES // of_reason[refusal.reason])
                self._reject_storm(refusal, held, places, numbers, examples)
                continue
            cuts = np.flatnonzero(np.diff(numbers)) + 1
            for number, part in zip(
                numbers[[0, *cuts]].tolist(), np.split(places, cuts), strict=True
            ):
                message = held.messages[number]
                full = self._quarantine.full(message)
                value, definitions = (b"", []) if full else self._message(held, part)
                times = held.columns.ts[part]
                reject = self._refused(refusal, len(part), value, definitions, times)
                if refusal.reason == Reason.UNKNOWN_SERIES:
                    ids = np.unique(held.columns.series_ids[part]).tolist()
                    reject = replace(reject, series_ids=ids)
                self._reject(message, reject)

    def _reject_storm(
        self,
        refusal: Refusal,
        held: HeldSamples,
        places: npt.NDArray[np.intp],
        numbers: npt.NDArray[np.intp],
        examples: int,
    ) -> None:
        """One row for each partition: the number, the offsets, and some of the samples."""
        by_partition: dict[tuple[str, int], list[int]] = {}
        for at, number in enumerate(numbers.tolist()):
            message = held.messages[number]
            by_partition.setdefault((message.topic, message.partition), []).append(at)
        for those in by_partition.values():
            number = int(numbers[those[0]])
            first, last = held.messages[number], held.messages[numbers[those[-1]]]
            same = [at for at in those if numbers[at] == number][:examples]
            value, definitions = self._message(held, places[same])
            times = held.columns.ts[places[those]]
            reject = self._refused(refusal, len(those), value, definitions, times)
            detail = f"{reject.detail}; offsets {first.offset} to {last.offset}"
            self._reject(first, replace(reject, detail=detail, last_offset=last.offset))

    def _refused(
        self,
        refusal: Refusal,
        samples: int,
        value: bytes,
        definitions: Sequence[SeriesDefinition],
        times: npt.NDArray[np.int64] | None = None,
    ) -> Reject:
        """A reject with its numbers. definitions: of all its series, or of examples where a limit
        has refused them; none if they are not known. times: of its samples.
        """
        metrics = {definition.metric for definition in definitions}
        metric = refusal.metric
        if metric is None and refusal.reason not in LIMITS and len(metrics) == 1:
            (metric,) = metrics
        span = None if times is None else (int(times.min()), int(times.max()))
        exceeded = refusal.exceeded
        if exceeded is not None:
            found = None
            if refusal.reason == Reason.TOO_OLD and span:
                found = self._plan.now_ms - span[0]
            elif refusal.reason == Reason.TOO_FAR_IN_FUTURE and span:
                found = span[1] - self._plan.now_ms
            elif refusal.reason == Reason.LABEL_LIMIT:
                limits = self._plan.limits
                each = (limits.of(d.metric).exceeded_by(d) for d in definitions)
                found = max((e.found for e in each if e and e.found is not None), default=None)
            exceeded = replace(exceeded, found=found)
        return Reject(
            refusal.reason,
            refusal.detail,
            samples,
            value,
            metric=metric,
            exceeded=exceeded,
            times=span,
        )

    def _message(
        self, held: HeldSamples, places: npt.NDArray[np.intp]
    ) -> tuple[bytes, list[SeriesDefinition]]:
        """Samples as a message of their own, with what defines their series. Returns the
        definitions, too, if those of all are known.
        """
        samples = held.columns.take(places)
        keys = zip(samples.series_ids.tolist(), samples.checks.tolist(), strict=True)
        first: dict[SeriesKey, int] = {}
        for place, key in zip(places.tolist(), keys, strict=True):
            first.setdefault(key, place)
        found = (held.definition(place, self._judge.brought) for place in first.values())
        definitions = [definition for definition in found if definition is not None]
        rest = [to_column(samples.values)] if samples.rest is None else samples.rest.columns
        columns = [*map(pa.array, (samples.series_ids, samples.checks, samples.ts)), *rest]
        table = pa.Table.from_arrays(columns, schema=arrow_codec.wire_schema(samples.table))
        of_all = definitions if len(definitions) == len(first) else []
        return arrow_codec.write(table, definitions), of_all

    def _store(self, samples: Block, groups: copies.Groups) -> None:
        """Writes samples sorted and merged: recent ones to one file, old ones to another."""
        if samples.rest is None:
            ids, ts, values = copies.arranged(
                samples.series_ids, samples.ts, samples.values, groups
            )
            rows = pa.table({"series_id": ids, "ts": ts, "value": to_column(values)})
        else:
            keys = pa.table({"series_id": samples.series_ids, "ts": samples.ts})
            for name, column in zip(samples.rest.column_names, samples.rest.columns, strict=True):
                keys = keys.append_column(name, column)
            rows = record_rows.arranged(samples.table, keys)
            ts = rows.column("ts").to_numpy()
        self.outcome.merged += len(samples) - len(ts)
        self.outcome.stored += len(ts)
        old = ts < self._plan.old_before_ms
        for part in [rows] if not old.any() else [rows.filter(~old), rows.filter(old)]:
            if part.num_rows:
                file = write_file(self._plan.settings.store, samples.table, part)
                self.outcome.files.append(file)


# Tasks of one worker process run one after another: they share what takes long to find out.
_decoder = Decoder()
_indexes: dict[tuple[object, ...], SeriesIdIndex] = {}
_ids: dict[tuple[object, ...], MatchedSeries] = {}


def _index_of(plan: TaskPlan) -> SeriesIdIndex:
    settings = plan.settings
    key = (settings.store.root, settings.scratch, *sorted(settings.store.options.items()))
    if key not in _indexes:
        _indexes[key] = SeriesIdIndex(settings.store, settings.scratch)
    _indexes[key].advance(plan.series_version)
    return _indexes[key]


def _matched_series(settings: TaskSettings) -> MatchedSeries:
    key = (settings.store.root, *sorted(settings.store.options.items()))
    if key not in _ids:
        _ids[key] = MatchedSeries(settings.store)
    return _ids[key]
