"""One version of the tables: what queries read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from varve.model.metadata import Metadata, metadata_of
from varve.promql.errors import StorageError
from varve.promql.kernels.types import I64
from varve.query.changes import Changes
from varve.query.derived_tables import DerivedView
from varve.query.file_table import FileTable
from varve.query.provenance import Provenance
from varve.query.record_tables import RecordView
from varve.query.rollup_groups import RollupGroups
from varve.query.row_group_cache import RowGroupCache
from varve.query.sample_columns import SampleColumns
from varve.query.series_index import Among, SeriesIndex
from varve.query.tier_view import ClassMark, TierView


class FileGone(StorageError):
    """A file of the view was replaced and then deleted: a newer view does without it."""


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
    all_files: FileTable
    """All live files: what is chosen by their statistics does not depend on what is in memory."""
    row_groups: RowGroupCache
    provenance: Provenance
    tiers: Sequence[TierView] = ()
    """Those that have a closed window, the finest first."""
    rollups: RollupGroups | None = None
    """Where rows of the tiers are read; None only without tiers."""
    raw_from_ms: int | None = None
    """Samples up to here may have been deleted; None if none have."""
    raw_marks: Sequence[ClassMark] = ()
    """Those of samples."""
    changes: Changes | None = None
    """Times that commits up to this version touched; None where that is not known."""
    head_ids: I64 | None = None
    """The series that the head has, ascending; None if it has all: see narrow_reader."""
    records: Mapping[str, RecordView] = field(default_factory=dict)
    """Histograms and exemplars, by table; without tables that do not exist."""
    derived: DerivedView = field(default_factory=DerivedView)
    """What derived metrics are computed from."""
    table: str = ""
    """The identity of the table samples, whose versions are counted."""
    said: Mapping[str, Metadata] = field(default_factory=dict)
    """What senders say of metrics apart from their series, by the name of a metric or family."""
    is_earlier: bool = False
    """Whether it is a snapshot from before, whose answers have to be what they were."""
    living: dict[tuple[int, int], Among | None] = field(
        default_factory=dict, compare=False, repr=False
    )
    """By range, the series that queries have found to live in it; a few, see narrowing."""

    def metadata(self) -> dict[str, Metadata]:
        """What is known of each metric, by name: what came with its series, then what was said of
        it or its family.
        """
        own = self.index.metadata
        described = {name: one.filled_by(metadata_of(name, self.said)) for name, one in own.items()}
        return {**self.said, **described}

    def extent(self) -> tuple[int, int, int]:
        """How many runs and files hold samples, and the first and last time of these, ms.

        The times are 0 where there are no samples.
        """
        runs = [run for run in self.head if run.rows]
        first = [run.first_ms for run in runs]
        last = [run.last_ms for run in runs]
        if len(self.files):
            low, high = self.files.span_ms()
            first.append(low)
            last.append(high)
        return len(runs) + len(self.files), min(first, default=0), max(last, default=0)

    def without_head(self) -> View:
        """The same rows, all of them read from files."""
        return replace(self, head=(), files=self.all_files, head_ids=None)

    @property
    def cached_bytes(self) -> int:
        """Bytes of decoded samples in memory."""
        return sum(run.nbytes for run in self.head) + self.row_groups.nbytes
