"""What a message decodes to: columns of samples, definitions of their series, and rejects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from varve.ingest.reject_reasons import Reason
from varve.model.identity import SeriesDefinition
from varve.model.staleness import canonicalise


@dataclass(frozen=True, slots=True)
class Reject:
    """A part of one message that cannot be stored."""

    reason: Reason
    detail: str
    samples: int
    """How many samples it stands for; 1 where that cannot be known."""
    value: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Samples in the order they were written, all columns of one length.

    series_ids: int64. checks: int32. ts: int64, ms. values: float64, the stale marker for NULL;
    canonical once the blocks are concatenated.
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

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Block:
        """The chosen samples, and nothing but the columns of them."""
        return Block(
            self.series_ids[chosen], self.checks[chosen], self.ts[chosen], self.values[chosen]
        )


EMPTY = Block(
    np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64)
)


def refused(reason: Reason, detail: str, message: bytes) -> Block:
    """A block without samples: the message as a whole is rejected."""
    return Block(
        EMPTY.series_ids,
        EMPTY.checks,
        EMPTY.ts,
        EMPTY.values,
        rejects=(Reject(reason, detail, 1, message),),
    )


def concatenate(blocks: Sequence[Block]) -> Block:
    """Samples of all, in order, their values canonical; only the columns."""
    if not blocks:
        return EMPTY
    return Block(
        np.concatenate([b.series_ids for b in blocks]),
        np.concatenate([b.checks for b in blocks]),
        np.concatenate([b.ts for b in blocks]),
        canonicalise(np.concatenate([b.values for b in blocks])),
    )
