"""One task of a batch: messages in, files of samples out, and a description of what happened.

The files are in no commit yet. The driver registers the new series, then commits all at once;
a task that is run again writes other files and the first ones are never committed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.ingest import arrow_format
from varve.ingest.block import Block, Reject, concatenate
from varve.ingest.decode import Decoder
from varve.ingest.known import CONTESTED, UNKNOWN, KnownSeries
from varve.ingest.reasons import Reason
from varve.model import copies
from varve.model.identity import SeriesDefinition
from varve.model.schema import table_schema
from varve.model.staleness import to_column
from varve.storage.files import NewFile, write_file
from varve.storage.store import Store


@dataclass(frozen=True)
class TaskPlan:
    """What a task needs to know; pickled to it.

    Samples are stored if oldest_ms <= ts <= newest_ms; those with ts < late_ms go to a file of
    their own. refused: (series_id, check) that must not be stored.
    """

    store: Store
    query: str
    now_ms: int
    oldest_ms: int
    newest_ms: int
    late_ms: int
    max_message_bytes: int
    series_version: int
    refused: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message. ts: ms since the epoch."""

    topic: str
    partition: int
    offset: int
    ts: int
    value: bytes | None


@dataclass
class Outcome:
    """What a task did. received = stored + merged + the sum of rejected."""

    messages: int = 0
    received: int = 0
    stored: int = 0
    merged: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    files: list[NewFile] = field(default_factory=list)
    quarantine: list[NewFile] = field(default_factory=list)
    definitions: list[tuple[SeriesDefinition, int]] = field(default_factory=list)
    """Of series the task did not know, each with the time of its earliest sample."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        tree: dict[str, Any] = json.loads(text)
        tree["files"] = [NewFile(**f) for f in tree["files"]]
        tree["quarantine"] = [NewFile(**f) for f in tree["quarantine"]]
        tree["definitions"] = [
            (SeriesDefinition(**(d | {"tags": tuple(map(tuple, d["tags"]))})), first)
            for d, first in tree["definitions"]
        ]
        return cls(**tree)


def run_task(messages: Iterable[Message], plan: TaskPlan) -> Iterator[Outcome]:
    """One outcome, or none if there were no messages."""
    decoder = Decoder(plan.max_message_bytes)
    read, blocks = [], []
    for message in messages:
        read.append(message)
        blocks.append(decoder.decode(message.value))
    if not read:
        return
    outcome = Outcome(messages=len(read))
    refused = [(read[i], r) for i, block in enumerate(blocks) for r in block.rejects]
    samples = concatenate(blocks)
    origin = np.repeat(np.arange(len(blocks)), [len(b) for b in blocks])
    defined = {(d.series_id, d.check): d for block in blocks for d in block.definitions}

    keep, reasons = _judge(samples, defined, plan, outcome)
    for reason, chosen in reasons.items():
        for index, value in _by_message(samples, origin, chosen, defined):
            refused.append((read[index], Reject(reason, _detail(reason, plan), *value)))
    outcome.received = len(samples) + sum(r.samples for b in blocks for r in b.rejects)
    counts: Counter[str] = Counter()
    for _, reject in refused:
        counts[reject.reason.value] += reject.samples
    outcome.rejected = dict(counts)
    if refused:
        outcome.quarantine.append(_write_quarantine(refused, plan))
    _store(samples if keep is None else samples.take(keep), plan, outcome)
    yield outcome


# One per table and worker process: tasks of one process run one after another.
_known: dict[tuple[object, ...], KnownSeries] = {}


def _known_series(plan: TaskPlan) -> KnownSeries:
    key = (plan.store.root, *sorted(plan.store.options.items()))
    if key not in _known:
        _known[key] = KnownSeries(plan.store)
    _known[key].advance(plan.series_version)
    return _known[key]


def _judge(
    samples: Block,
    defined: dict[tuple[int, int], SeriesDefinition],
    plan: TaskPlan,
    outcome: Outcome,
) -> tuple[npt.NDArray[np.bool_] | None, dict[Reason, npt.NDArray[np.bool_]]]:
    """Which samples to store (None: all), and which to refuse, by reason, each under one only."""
    reasons: dict[Reason, npt.NDArray[np.bool_]] = {}
    if not len(samples):
        return None, reasons
    ids, checks = samples.series_ids, samples.checks
    open_ = np.ones(len(samples), dtype=bool)

    def refuse(reason: Reason, mask: npt.NDArray[np.bool_]) -> None:
        mask &= open_
        if mask.any():
            reasons[reason] = mask
            np.logical_and(open_, ~mask, out=open_)

    refuse(Reason.TOO_OLD, samples.ts < plan.oldest_ms)
    refuse(Reason.TOO_FAR_IN_FUTURE, samples.ts > plan.newest_ms)
    status = _known_series(plan).status(ids, checks)
    refuse(Reason.ID_COLLISION, status == CONTESTED)
    new = np.flatnonzero(open_ & (status == UNKNOWN))
    if len(new):
        undefined = np.zeros(len(samples), dtype=bool)
        contested = np.zeros(len(samples), dtype=bool)
        pairs, first = np.unique(
            np.stack([ids[new], checks[new].astype(np.int64)]), axis=1, return_inverse=True
        )
        for k, key in enumerate(map(tuple, pairs.T.tolist())):
            of_series = new[first.ravel() == k] if pairs.shape[1] > 1 else new
            if key in plan.refused:
                contested[of_series] = True
            elif key in defined:
                outcome.definitions.append((defined[key], int(samples.ts[of_series].min())))
            else:
                undefined[of_series] = True
        refuse(Reason.ID_COLLISION, contested)
        refuse(Reason.UNKNOWN_SERIES, undefined)
    return (open_ if reasons else None), reasons


def _detail(reason: Reason, plan: TaskPlan) -> str:
    match reason:
        case Reason.TOO_OLD:
            return f"before {plan.oldest_ms}: its raw samples expire before it is surely rolled up"
        case Reason.TOO_FAR_IN_FUTURE:
            return f"after {plan.newest_ms}: check the producer's clock"
        case Reason.ID_COLLISION:
            return "another series has this id: change a label to tell them apart"
        case _:
            return "no definition of the series has come"


def _by_message(
    samples: Block,
    origin: npt.NDArray[np.intp],
    chosen: npt.NDArray[np.bool_],
    defined: dict[tuple[int, int], SeriesDefinition],
) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """For each message with chosen samples: its index, their number, and them as a message."""
    at = np.flatnonzero(chosen)
    starts = np.flatnonzero(np.diff(origin[at], prepend=-1))
    for part in np.split(at, starts[1:]):
        block = samples.take(part)
        keys = dict.fromkeys(zip(block.series_ids.tolist(), block.checks.tolist(), strict=True))
        known = [defined[k] for k in keys if k in defined]
        columns = [block.series_ids, block.checks, block.ts, to_column(block.values)]
        table = pa.Table.from_arrays(
            [pa.array(c) for c in columns], schema=arrow_format.wire_schema("samples")
        )
        yield int(origin[part[0]]), (len(part), arrow_format.write(table, known))


def _write_quarantine(refused: list[tuple[Message, Reject]], plan: TaskPlan) -> NewFile:
    rows = [
        {
            "query": plan.query,
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "ts": message.ts,
            "reason": reject.reason.value,
            "detail": reject.detail[:500],
            "samples": reject.samples,
            "value": reject.value,
            "rejected_at": plan.now_ms,
        }
        for message, reject in refused
    ]
    table = pa.Table.from_pylist(rows, schema=table_schema("quarantine").arrow)
    return write_file(plan.store, "quarantine", table)


def _store(samples: Block, plan: TaskPlan, outcome: Outcome) -> None:
    chosen = copies.order(samples.series_ids, samples.ts, samples.values)
    outcome.merged = len(samples) - len(chosen)
    outcome.stored = len(chosen)
    late = samples.ts[chosen] < plan.late_ms
    parts = [chosen] if not late.any() else [chosen[~late], chosen[late]]
    for part in parts:
        if len(part):
            table = pa.table(
                {
                    "series_id": samples.series_ids[part],
                    "ts": samples.ts[part],
                    "value": to_column(samples.values[part]),
                }
            )
            outcome.files.append(write_file(plan.store, "samples", table))
