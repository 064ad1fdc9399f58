"""What an answer rests on: the versions it was read from, the tiers, what is missing in it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from varve.model.schema import TABLES
from varve.model.window import RAW, TIER_NAMES, Window
from varve.storage.snapshot import base_name

HEADERS = (
    "Varve-Snapshot",
    "Varve-Tier",
    "Varve-Complete-Until",
    "Varve-Approximate",
    "Varve-Partial",
    "Varve-Sampled",
)
"""Headers of an answer over HTTP, those parts that a proxy or a script may want."""


@dataclass(frozen=True, slots=True)
class SelectorUse:
    """What one selector of a query was answered from.

    tiers: the widest first, raw for samples. rows: rows and samples selected; nbytes: what they
    took while the query held them. moved_ms: by how much at most ends of its windows were moved to
    earlier times, since samples have expired; 0 if the answer is that of the samples.
    missing_until_ms: some of its windows lack samples up to there, which have expired. pending:
    ranges where rows wait for a repair, so that finer rows or samples were read instead. by_spark:
    whether executors of Spark have read them.
    """

    selector: str
    tiers: tuple[str, ...]
    rows: int
    nbytes: int
    moved_ms: int = 0
    missing_until_ms: int | None = None
    pending: tuple[Window, ...] = ()
    by_spark: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "selector": self.selector,
            "tiers": list(self.tiers),
            "rows": self.rows,
            "bytes": self.nbytes,
            "approximate_ms": self.moved_ms,
            "by_spark": self.by_spark,
        }


@dataclass(frozen=True, slots=True)
class Sampled:
    """Of so many series as `size` says `drawn` were read, and values are estimates.

    bounds: by series of the answer, its labels and how far each of its points may be from the
    value, with that confidence; 0 where all series of a group were read, NaN where too few were.
    """

    drawn: int
    size: int
    confidence: float
    bounds: Sequence[tuple[Mapping[str, str], npt.NDArray[np.float64]]]

    def to_json(self) -> dict[str, Any]:
        return {
            "series": self.drawn,
            "of": self.size,
            "confidence": self.confidence,
            "bounds": [
                {
                    "metric": dict(labels),
                    "values": [v if math.isfinite(v) else None for v in values.tolist()],
                }
                for labels, values in self.bounds
            ],
        }


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer comes from.

    versions has the version of each table that was read, in each root as Snapshot.versions has
    them. Everything produced up to complete_until_ms (broker time, Unix ms) is in the answer; None
    while ingest has not said so.
    """

    versions: Mapping[str, int]
    complete_until_ms: int | None
    selectors: Sequence[SelectorUse] = ()
    cached: int = 0
    """Steps that were computed for an earlier answer."""
    sampled: Sampled | None = None
    """What an estimate rests on; None where all series were read."""
    is_cut: bool = False
    """Whether steps are missing that would have taken too much."""

    @property
    def token(self) -> str:
        """The versions, as one opaque text."""
        return _token_of(tuple(sorted(self.versions.items())))

    @staticmethod
    def versions_of(token: str) -> dict[str, int]:
        """The versions by table that a token stands for. ValueError if it is none of ours."""
        try:
            padded = token + "=" * (-len(token) % 4)
            versions = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (ValueError, UnicodeDecodeError) as err:
            raise ValueError(f"{token!r} is no snapshot token") from err
        if (
            not isinstance(versions, dict)
            or not {"samples", "series"} <= versions.keys()
            or not {base_name(name) for name in versions} <= {*TABLES}
            or not all(type(v) is int and v >= 0 for v in versions.values())
        ):
            raise ValueError(f"{token!r} is no snapshot token")
        return versions

    @property
    def tier(self) -> str:
        """The widest rows that were read, raw if none were."""
        read = [tier for use in self.selectors for tier in use.tiers]
        return max(read, key=TIER_NAMES.index, default=RAW)

    @property
    def moved_ms(self) -> int:
        """Above 0 for an answer that is approximate: by how much ends of windows were moved."""
        return max((use.moved_ms for use in self.selectors), default=0)

    @property
    def is_partial(self) -> bool:
        """Whether steps are missing, or samples that the answer needs have expired."""
        return self.is_cut or any(use.missing_until_ms is not None for use in self.selectors)

    def to_json(self) -> dict[str, Any]:
        pending = {(w.start_ms, w.end_ms) for use in self.selectors for w in use.pending}
        return {
            "snapshot": self.token,
            "complete_until": self.complete_until_ms,
            "tier": self.tier,
            "approximate": self.moved_ms > 0,
            "partial": self.is_partial,
            "cached": self.cached,
            "sampled": None if self.sampled is None else self.sampled.to_json(),
            "pending": [list(span) for span in sorted(pending)],
            "rows": sum(use.rows for use in self.selectors),
            "bytes": sum(use.nbytes for use in self.selectors),
            "selectors": [use.to_json() for use in self.selectors],
        }

    def headers(self) -> dict[str, str]:
        """The values of HEADERS, of those that are known."""
        values = (
            self.token,
            self.tier,
            self.complete_until_ms,
            "true" if self.moved_ms else "false",
            "true" if self.is_partial else "false",
            "true" if self.sampled is not None else "false",
        )
        known = zip(HEADERS, values, strict=True)
        return {name: str(value) for name, value in known if value is not None}


@lru_cache(maxsize=256)
def _token_of(versions: tuple[tuple[str, int], ...]) -> str:
    text = json.dumps(dict(versions), separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
