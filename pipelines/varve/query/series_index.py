"""The label index: which series there are and which of them a list of matchers selects.

One thread adds rows of the table series to an `IndexBuilder`; the `SeriesIndex` it hands out is
what was known at that moment, and may be shared between threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.promql.interrupt import Check, never
from varve.promql.labels.label_table import METRIC_NAME, Column, Interned, LabelTable
from varve.promql.labels.postings import Postings
from varve.promql.syntax.ast import Matcher

COLUMNS = ("series_id", "metric", "tags", "type", "unit", "help")
"""What the index reads of the table series."""

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What producers said of a metric; empty where they said nothing."""

    type: str
    unit: str
    help: str


@dataclass(frozen=True, slots=True)
class Found:
    """Series in the order of their labels; row i of labels is series_ids[i].

    by_id: rows in ascending order of series_id, to look samples up.
    """

    series_ids: Ids
    labels: LabelTable
    by_id: Rows

    @property
    def size(self) -> int:
        return len(self.series_ids)


class SeriesIndex:
    """All series known at one moment, metric name as `__name__`. May be shared by threads."""

    def __init__(self, ids: Ids, labels: LabelTable, metadata: dict[str, Metadata]) -> None:
        """Row i of labels is series ids[i], in any order."""
        self.metadata = metadata
        """By metric name."""
        self._ids = ids
        self._finder = Postings(labels)

    @property
    def size(self) -> int:
        return len(self._ids)

    @property
    def series_ids(self) -> Ids:
        """Row i of `labels` is series_ids[i]."""
        return self._ids

    @property
    def labels(self) -> LabelTable:
        """Of all series, in no order."""
        return self._finder.table

    def find(self, matchers: Sequence[Matcher], check: Check = never) -> Found:
        """Series that meet all matchers; the same object for the same matchers, while kept.

        ValueError if a regex is malformed. check: see promql/interrupt.py.
        """
        rows, labels = self._finder.find(matchers, check)
        return labels.cached("found", lambda: self._found(rows))

    def find_any(self, matchers: Sequence[Sequence[Matcher]]) -> Found:
        """Series that meet one of the lists; all series if there is no list."""
        if len(matchers) <= 1:
            return self.find(matchers[0] if matchers else ())
        rows = np.unique(np.concatenate([self._finder.find(one)[0] for one in matchers]))
        return self._found(rows)

    def label_names(self, matchers: Sequence[Sequence[Matcher]]) -> list[str]:
        """Names of labels, sorted, that one of the series found has."""
        rows = self._rows_any(matchers)
        columns = self._finder.table.columns
        return sorted(n for n, column in columns.items() if column.codes[rows].any())

    def label_values(self, name: str, matchers: Sequence[Sequence[Matcher]]) -> list[str]:
        """Values of one label, sorted, over the series found."""
        column = self._finder.table.columns.get(name)
        if column is None:
            return []
        codes = np.unique(column.codes[self._rows_any(matchers)])
        return sorted(column.interned.values[code] for code in codes.tolist() if code)

    def _rows_any(self, matchers: Sequence[Sequence[Matcher]]) -> Rows:
        if not matchers:
            return np.arange(self.size)
        return np.unique(np.concatenate([self._finder.find(one)[0] for one in matchers]))

    def _found(self, rows: Rows) -> Found:
        columns = {}
        for name, column in self._finder.table.columns.items():
            codes = column.codes[rows]
            if codes.any():
                columns[name] = Column(codes, column.interned)
        labels = LabelTable(len(rows), columns)
        order = labels.sort_order()
        ids = self._ids[rows][order]
        return Found(ids, labels.take(order), np.argsort(ids))


class IndexBuilder:
    """Collects the rows of the table series. For one thread."""

    def __init__(self) -> None:
        self._ids: Ids = np.empty(0, dtype=np.int64)
        self._sorted: Ids = self._ids
        self._interned: dict[str, Interned] = {}
        self._codes: dict[str, Codes] = {}
        self._metadata: dict[str, Metadata] = {}

    def add(self, rows: pa.Table) -> bool:
        """Rows with COLUMNS, in any order; whether one of them defines a series.

        Rows of one series_id differ in last_seen only, so the first that comes defines it.
        """
        fresh = self._unknown(rows)
        if fresh.num_rows == 0:
            return False
        start = len(self._ids)
        ids = fresh.column("series_id").to_numpy()
        self._ids = np.concatenate([self._ids, ids])
        self._sorted = np.sort(self._ids)
        own_rows = np.arange(start, len(self._ids))
        self._put(METRIC_NAME, own_rows, fresh.column("metric").combine_chunks())
        tags = fresh.column("tags").combine_chunks()
        offsets = tags.offsets.to_numpy()
        keys = tags.keys[offsets[0] : offsets[-1]].dictionary_encode()
        items = tags.items[offsets[0] : offsets[-1]]
        parents = np.repeat(own_rows, np.diff(offsets))
        key_codes = keys.indices.to_numpy()
        for code, name in enumerate(keys.dictionary.to_pylist()):
            mask = key_codes == code
            self._put(name, parents[mask], items.filter(pa.array(mask)))
        self._note(fresh)
        return True

    def index(self) -> SeriesIndex:
        """What is known now."""
        columns = {
            name: Column(_padded(codes, len(self._ids)), self._interned[name])
            for name, codes in self._codes.items()
        }
        return SeriesIndex(self._ids, LabelTable(len(self._ids), columns), dict(self._metadata))

    def _unknown(self, rows: pa.Table) -> pa.Table:
        """The first row of each series_id not seen before."""
        ids = rows.column("series_id").to_numpy()
        firsts = np.sort(np.unique(ids, return_index=True)[1])
        known = np.isin(ids[firsts], self._sorted)
        return rows.take(pa.array(firsts[~known]))

    def _put(self, name: str, rows: Rows, values: pa.Array) -> None:
        interned = self._interned.setdefault(name, Interned())
        codes = _padded(self._codes.get(name), len(self._ids)).copy()
        encoded = values.dictionary_encode()
        translated = [interned.code(value) for value in encoded.dictionary.to_pylist()]
        codes[rows] = np.array(translated, dtype=np.int32)[encoded.indices.to_numpy()]
        self._codes[name] = codes

    def _note(self, rows: pa.Table) -> None:
        """Metadata of each metric, from the first series whose producer gave any."""
        columns = (rows.column(c).to_pylist() for c in ("metric", "type", "unit", "help"))
        for metric, type_, unit, text in zip(*columns, strict=True):
            said = Metadata(type_ or "unknown", unit or "", text or "")
            if self._metadata.get(metric, _NOTHING) == _NOTHING:
                self._metadata[metric] = said


_NOTHING = Metadata("unknown", "", "")


def _padded(codes: Codes | None, size: int) -> Codes:
    """The codes with 0, an absent label, for the rows added since."""
    if codes is None:
        return np.zeros(size, dtype=np.int32)
    return codes if len(codes) == size else np.pad(codes, (0, size - len(codes)))
