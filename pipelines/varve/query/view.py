"""One version of the tables samples and series: what queries read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from varve.promql.errors import StorageError
from varve.promql.kernels.types import I64
from varve.query.row_group_cache import RowGroupCache
from varve.query.sample_columns import SampleColumns
from varve.query.series_index import SeriesIndex
from varve.storage.bounds import Bounds
from varve.storage.file_set import FileSet
from varve.storage.log import LiveFile


class FileGone(StorageError):
    """A file of the view was replaced and then deleted: a newer view does without it."""


class FileTable:
    """Sample files, sifted by their statistics."""

    def __init__(self, files: Sequence[LiveFile]) -> None:
        self._files = FileSet(files, "ts")

    def __len__(self) -> int:
        return len(self._files)

    def span_ms(self) -> tuple[int, int]:
        """First and last time of a sample. ValueError without files."""
        zones = self._files.zones
        return int(zones.first_ms.min()), int(zones.last_ms.max())

    def overlapping(self, series_ids: I64, start_ms: int, end_ms: int) -> tuple[list[str], int]:
        """Files that can hold samples of the ids (ascending) in (start_ms, end_ms], their rows."""
        chosen = self._files.select(Bounds(start_ms, end_ms, series_ids))
        return [file.path for file in chosen], sum(file.rows for file in chosen)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer comes from.

    versions has the version of each table that was read. Everything produced up to
    complete_until_ms (broker time, Unix ms) is in the answer; None while ingest has not said so.
    """

    versions: Mapping[str, int]
    complete_until_ms: int | None
    tier: str = "raw"

    @property
    def token(self) -> str:
        """The versions, as one opaque text."""
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
    """What queries read: the index, and where samples are. Immutable, shared between threads.

    reader.Reader makes it a storage for one query.
    """

    index: SeriesIndex
    head: Sequence[SampleColumns]
    """The samples of the small files that are held in memory."""
    files: FileTable
    """All other live files."""
    row_groups: RowGroupCache
    provenance: Provenance

    def extent(self) -> tuple[int, int, int]:
        """How many runs and files hold samples, and the first and last time of these, ms.

        The times are 0 where there are no samples.
        """
        runs = [run for run in self.head if run.rows]
        first = [int(run.ts.min()) for run in runs]
        last = [int(run.ts.max()) for run in runs]
        if len(self.files):
            low, high = self.files.span_ms()
            first.append(low)
            last.append(high)
        return len(runs) + len(self.files), min(first, default=0), max(last, default=0)

    @property
    def cached_bytes(self) -> int:
        """Bytes of decoded samples in memory."""
        return sum(run.nbytes for run in self.head) + self.row_groups.nbytes
