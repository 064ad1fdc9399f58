"""Definitions of series as columns: what many new series at once take, without an object each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varve.ingest.kernel_definitions import write_texts
from varve.ingest.series_id_index import SeriesKey
from varve.model.identity import SeriesDefinition, identities

Ids = npt.NDArray[np.int64]
Checks = npt.NDArray[np.int32]
Sizes = npt.NDArray[np.int64]
"""Of each series the columns LABELS, NAME_BYTES, VALUE_BYTES of varve.ingest.kernel_definitions."""

_TEXTS = ("metric", "tags", "type", "unit", "help")


@dataclass(frozen=True, slots=True, eq=False)
class DefinitionColumns(Sequence[SeriesDefinition]):
    """Definitions of a message. All columns have one length."""

    ids: Ids
    checks: Checks
    metrics: Sequence[str]
    """The metrics, each once."""
    codes: npt.NDArray[np.int64]
    """Which of them each series is of."""
    sizes: Sizes
    texts: pa.Table
    """The columns metric, tags, type, unit, help of the table series."""

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> DefinitionColumns | None:
        """A batch of definitions that is valid in full; None if one of them needs a second look."""
        encoded = batch.column("metric").dictionary_encode()
        names = encoded.dictionary.to_pylist()
        if None in names:
            return None
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        found = _identities(batch, names, codes)
        if found is None:
            return None
        ids, checks, sizes = found
        kinds = pc.fill_null(batch.column("type"), "")
        columns = [
            batch.column("metric"),
            batch.column("tags"),
            pc.if_else(pc.equal(kinds, ""), "unknown", kinds),
            pc.fill_null(batch.column("unit"), ""),
            pc.fill_null(batch.column("help"), ""),
        ]
        return cls(
            ids, checks, names, codes, sizes, pa.table(dict(zip(_TEXTS, columns, strict=True)))
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[SeriesDefinition]:
        keys = self.ids.tolist(), self.checks.tolist()
        columns = (column.to_pylist() for column in self.texts.columns)
        for series_id, check, metric, tags, *rest in zip(*keys, *columns, strict=True):
            yield SeriesDefinition(series_id, check, metric, tuple(tags), *rest)

    @overload
    def __getitem__(self, at: int) -> SeriesDefinition: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[SeriesDefinition]: ...

    def __getitem__(self, at: int | slice) -> SeriesDefinition | Sequence[SeriesDefinition]:
        return list(self)[at]


class BroughtDefinitions:
    """Definitions that came with a task's messages; of several of one series the last counts."""

    def __init__(self) -> None:
        self._blocks: list[DefinitionColumns] = []
        self._by_key: dict[SeriesKey, SeriesDefinition] = {}
        self._mapped = 0
        """Of the blocks, those whose definitions are in _by_key."""
        self._has_others = False
        self._whole: DefinitionColumns | None = None
        self._order: npt.NDArray[np.intp] | None = None

    def add(self, definitions: Sequence[SeriesDefinition]) -> None:
        if isinstance(definitions, DefinitionColumns):
            self._blocks.append(definitions)
            self._whole = None
        else:
            self._map()
            self._has_others = True
            self._by_key |= {(d.series_id, d.check): d for d in definitions}

    def get(self, key: SeriesKey) -> SeriesDefinition | None:
        self._map()
        return self._by_key.get(key)

    def put(self, definition: SeriesDefinition) -> None:
        """Adds one that came with a sample."""
        self._map()
        self._has_others = True
        self._by_key[definition.series_id, definition.check] = definition

    def places(self, ids: Ids, checks: Checks) -> npt.NDArray[np.intp] | None:
        """Where in `whole` the definitions of some series are; None if one of them is not there, or
        has to be asked for by itself.
        """
        if self._has_others or not self._blocks:
            return None
        whole = self.whole
        if self._order is None:
            self._order = np.argsort(whole.ids, kind="stable")
        in_order = whole.ids[self._order]
        at = np.searchsorted(in_order, ids, side="right") - 1
        found = self._order[np.maximum(at, 0)]
        same = (whole.ids[found] == ids) & (whole.checks[found] == checks)
        return found if same.all() else None

    @property
    def whole(self) -> DefinitionColumns:
        """All that came as columns, in the order they came. There must be some."""
        if self._whole is None:
            self._whole = _concatenated(self._blocks)
            self._order = None
        return self._whole

    def _map(self) -> None:
        for block in self._blocks[self._mapped :]:
            self._by_key |= {(d.series_id, d.check): d for d in block}
        self._mapped = len(self._blocks)


def _concatenated(blocks: Sequence[DefinitionColumns]) -> DefinitionColumns:
    names: dict[str, int] = {}
    codes = []
    for block in blocks:
        of_block = [names.setdefault(name, len(names)) for name in block.metrics]
        codes.append(np.array(of_block, np.int64)[block.codes])
    return DefinitionColumns(
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.checks for block in blocks]),
        list(names),
        np.concatenate(codes),
        np.concatenate([block.sizes for block in blocks]),
        pa.concat_tables([block.texts for block in blocks]),
    )


def _identities(
    batch: pa.RecordBatch, names: list[str], codes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Sizes] | None:
    """series_id and check of each definition of a batch that is valid in full, and its sizes; None
    if one of them needs a second look. names and codes: the metrics, each once, and which of them
    each definition is of.
    """
    metrics, tags = batch.column("metric"), batch.column("tags")
    keys, items = tags.keys, tags.items
    columns = (metrics, tags, keys, items)
    if any(column.offset or column.null_count for column in columns):
        return None
    count = len(batch)
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty((0, 3), np.int64)
    metric, key, item = (_content(column) for column in (metrics, keys, items))
    # Every value may be escaped in full; a label has four characters more, a series two.
    room = len(metric) + len(key) + 2 * len(item) + 4 * len(keys) + 2 * count
    texts = np.empty(room, np.uint8)
    ends = np.empty(count, np.int64)
    sizes = np.empty((count, 3), np.int64)
    offsets = [_offsets(column) for column in (metrics, tags, keys, items)]
    if not write_texts(
        offsets[0], metric, offsets[1], offsets[2], key, offsets[3], item, texts, ends, sizes
    ):
        return None
    raw = texts[: ends[-1]].tobytes()
    limits = ends.tolist()
    begins = [0, *limits[:-1]]
    each = (raw[begin:end] for begin, end in zip(begins, limits, strict=True))
    return *identities(names, codes, each), sizes


def _offsets(column: Any) -> npt.NDArray[np.int32]:
    return np.frombuffer(column.buffers()[1], np.int32, len(column) + 1)


def _content(column: pa.StringArray) -> npt.NDArray[np.uint8]:
    buffer = column.buffers()[2]
    return np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
