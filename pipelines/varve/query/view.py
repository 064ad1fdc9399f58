"""One moment of the tables samples and series, as the storage that the PromQL engine asks."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from varve.promql.errors import StorageError
from varve.promql.interrupt import Check, never
from varve.promql.kernels.types import I64
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import SelectHints, Selection
from varve.promql.syntax.ast import Matcher
from varve.query.row_group_cache import RowGroups
from varve.query.sample_columns import Block, gather
from varve.query.series_index import Found, SeriesIndex
from varve.storage.log import LiveFile


class FileTable:
    """Sample files and their bounds as arrays, so that thousands are sifted at once."""

    def __init__(self, files: Sequence[LiveFile]) -> None:
        self._paths = [f.path for f in files]
        self._rows = np.array([f.rows for f in files], dtype=np.int64)
        bounds = [
            (f.minimum["series_id"], f.maximum["series_id"], f.minimum["ts"], f.maximum["ts"])
            for f in files
        ]
        columns = np.array(bounds, dtype=np.int64).reshape(-1, 4).T
        self._min_id, self._max_id, self._min_ts, self._max_ts = columns

    def __len__(self) -> int:
        return len(self._paths)

    def span_ms(self) -> tuple[int, int]:
        """First and last time of a sample. ValueError without files."""
        return int(self._min_ts.min()), int(self._max_ts.max())

    def overlapping(self, series_ids: I64, start_ms: int, end_ms: int) -> tuple[list[str], int]:
        """Files that can hold samples of the ids (ascending) in (start_ms, end_ms], their rows."""
        first = np.searchsorted(series_ids, self._min_id, side="left")
        beyond = np.searchsorted(series_ids, self._max_id, side="right")
        hit = (beyond > first) & (self._max_ts > start_ms) & (self._min_ts <= end_ms)
        chosen = np.flatnonzero(hit)
        return [self._paths[i] for i in chosen.tolist()], int(self._rows[chosen].sum())


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer comes from. versions: of each table read.

    complete_until_ms: everything produced up to then (broker time, Unix ms) is in the answer;
    None while ingest has not said so yet.
    """

    versions: Mapping[str, int]
    complete_until_ms: int | None
    tier: str = "raw"

    @property
    def token(self) -> str:
        """The versions as one opaque text."""
        text = json.dumps(dict(sorted(self.versions.items())), separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def to_json(self) -> dict[str, object]:
        return {
            "snapshot": self.token,
            "complete_until": self.complete_until_ms,
            "tier": self.tier,
        }


@dataclass(frozen=True)
class View:
    """Immutable and shared between threads; implements promql.storage.Storage."""

    index: SeriesIndex
    recent: Sequence[Block]
    """Samples of the small files that are in memory."""
    files: FileTable
    """All other live files."""
    row_groups: RowGroups
    provenance: Provenance

    def extent(self) -> tuple[int, int, int]:
        """Pieces that samples lie in, in memory and on disk; their first and last time, ms; 0
        where there are none.
        """
        held = [block for block in self.recent if block.rows]
        first = [int(block.ts.min()) for block in held]
        last = [int(block.ts.max()) for block in held]
        if len(self.files):
            low, high = self.files.span_ms()
            first.append(low)
            last.append(high)
        return len(held) + len(self.files), min(first, default=0), max(last, default=0)

    @property
    def cached_bytes(self) -> int:
        """Decoded samples in memory, as a bound of what they take."""
        return sum(block.nbytes for block in self.recent) + self.row_groups.nbytes

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        hints: SelectHints,
    ) -> Selection:
        """Samples in (start_ms, end_ms]. StorageError if a file cannot be read."""
        found = self.index.find(matchers, hints.check)
        hints.check()
        blocks = [*self._cold(found, start_ms, end_ms), *self.recent]
        hints.check()
        samples = gather(blocks, found.series_ids, found.by_id, start_ms, end_ms, admit=hints.admit)
        return Selection(found.labels, samples)

    def count(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, check: Check = never
    ) -> tuple[int, int]:
        found = self.index.find(matchers, check)
        ids = found.series_ids[found.by_id]
        _, rows = self.files.overlapping(ids, start_ms, end_ms)
        held = gather(self.recent, found.series_ids, found.by_id, start_ms, end_ms)
        return found.size, rows + int((held.ends - held.begins).sum())

    def label_names(
        self,
        matchers: Sequence[Sequence[Matcher]],
        start_ms: int,  # noqa: ARG002 - series without samples in the range may count
        end_ms: int,  # noqa: ARG002
    ) -> list[str]:
        return self.index.label_names(matchers)

    def label_values(
        self,
        name: str,
        matchers: Sequence[Sequence[Matcher]],
        start_ms: int,  # noqa: ARG002
        end_ms: int,  # noqa: ARG002
    ) -> list[str]:
        return self.index.label_values(name, matchers)

    def series(
        self,
        matchers: Sequence[Sequence[Matcher]],
        start_ms: int,  # noqa: ARG002
        end_ms: int,  # noqa: ARG002
    ) -> LabelTable:
        return self.index.find_any(matchers).labels

    def _cold(self, found: Found, start_ms: int, end_ms: int) -> list[Block]:
        ids = found.series_ids[found.by_id]
        paths, _ = self.files.overlapping(ids, start_ms, end_ms)
        try:
            return self.row_groups.blocks(paths, ids, start_ms, end_ms)
        except OSError as err:
            raise StorageError(f"cannot read samples: {err}") from err
