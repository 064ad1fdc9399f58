"""What a message decodes to: columns of samples, definitions of their series, and rejects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.ingest.reject_reasons import Reason
from varve.kafka.message import Headers
from varve.model.errors import BadRecord
from varve.model.exceeded import Exceeded
from varve.model.identity import SeriesDefinition
from varve.model.metadata import Metadata
from varve.model.record_rows import SAMPLES
from varve.model.staleness import canonicalise


@dataclass(frozen=True, slots=True)
class Reject:
    """A part of one message that cannot be stored."""

    reason: Reason
    detail: str
    samples: int
    """The number of samples it stands for; 1 where that cannot be known."""
    value: bytes
    headers: Headers = ()
    """The headers with which `value` must be read to be judged in the same way again."""
    series_ids: Sequence[int] = ()
    """For Reason.UNKNOWN_SERIES, the series of its samples, each once, ascending."""
    last_offset: int | None = None
    """Offset of the last message it stands for, if that is not the one it is a part of."""
    metric: str | None = None
    """The one metric of its samples or definitions, if that is known."""
    exceeded: Exceeded | None = None
    """The limit it is beyond, with what was furthest off."""
    times: tuple[int, int] | None = None
    """Times of its oldest and its newest sample, ms, if they are known."""


@dataclass(frozen=True, slots=True)
class Block:
    """Samples of a message in the order they were written; all columns have one length.

    ts: ms since the epoch. values: the stale marker stands for NULL; they are canonical once blocks
    are concatenated. Of a record table there are rows in their place, whose values mean nothing.
    """

    series_ids: npt.NDArray[np.int64]
    checks: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    owners: Sequence[SeriesDefinition] = ()
    """The definition of each sample's series, where a format says it with every sample."""
    definitions: Sequence[SeriesDefinition] = ()
    """Definitions a message brings besides its samples, or instead of any."""
    rejects: Sequence[Reject] = field(default=())
    table: str = SAMPLES
    """The table that the rows are for."""
    rest: pa.Table | None = None
    """Of a record table: its columns behind ts, row for row."""
    metadata: Mapping[str, Metadata] = field(default_factory=dict)
    """What it says of metrics, by name, apart from their series."""

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Block:
        """The columns of the chosen samples, without definitions and rejects."""
        rest = self.rest
        if rest is not None:
            rest = rest.filter(chosen) if chosen.dtype == np.bool_ else rest.take(chosen)
        return Block(
            self.series_ids[chosen],
            self.checks[chosen],
            self.ts[chosen],
            self.values[chosen],
            table=self.table,
            rest=rest,
        )


EMPTY = Block(
    np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64)
)


def refused(bad: BadRecord, message: bytes, headers: Headers = ()) -> Block:
    """A block without samples, which rejects the message as a whole."""
    reason = Reason(bad.reason)
    reject = Reject(reason, bad.detail, 1, message, headers, exceeded=bad.exceeded)
    return Block(EMPTY.series_ids, EMPTY.checks, EMPTY.ts, EMPTY.values, rejects=(reject,))


def concatenate(blocks: Sequence[Block]) -> Block:
    """The columns of all blocks in order, their values canonical. They are for one table."""
    if not blocks:
        return EMPTY
    rests = [b.rest for b in blocks if b.rest is not None]
    return Block(
        np.concatenate([b.series_ids for b in blocks]),
        np.concatenate([b.checks for b in blocks]),
        np.concatenate([b.ts for b in blocks]),
        canonicalise(np.concatenate([b.values for b in blocks])),
        table=blocks[0].table,
        rest=pa.concat_tables(rests) if rests else None,
    )
