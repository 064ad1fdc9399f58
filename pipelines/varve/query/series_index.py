"""The series index: which series there are, and which of them a list of matchers selects.

One thread adds rows of the table series to an `IndexBuilder`. The `SeriesIndex` it makes has the
series added so far, and may be shared between threads.
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
from varve.query.memory import INDEX, UNBOUNDED, MemoryBudget
from varve.query.selection_cache import SelectionCache

COLUMNS = ("series_id", "metric", "tags", "type", "unit", "help")
"""What is read of the table series."""

# A selection without its series: some objects.
_SELECTION_BYTES = 1_024
# A series in a selection: its ids, its place among the others, a tuple of its labels.
_SERIES_BYTES = 96
# A label of it: its code, its name and value in that tuple and in JSON.
_LABEL_BYTES = 124
# A series in the index, for each label: its code and its place in the postings.
_POSTING_BYTES = 12
# A distinct value of a label: a short text, listed and looked up, while it grows and as published.
_VALUE_BYTES = 300

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What producers said of a metric. unit and help are empty where they said nothing."""

    type: str
    unit: str
    help: str


@dataclass(frozen=True, slots=True)
class SelectedSeries:
    """Series in the order of their labels; row i of labels is series_ids[i].

    by_id holds the rows in ascending order of series_id, to look samples up.
    """

    series_ids: Ids
    labels: LabelTable
    by_id: Rows

    @property
    def size(self) -> int:
        return len(self.series_ids)

    @property
    def nbytes(self) -> int:
        """About what they take, with the label sets and JSON that queries derive from them."""
        series = _SERIES_BYTES + _LABEL_BYTES * len(self.labels.columns)
        return _SELECTION_BYTES + self.size * series


class SeriesIndex:
    """The series known at one moment, with the metric name as `__name__`. Safe to share."""

    def __init__(
        self,
        ids: Ids,
        labels: LabelTable,
        metadata: dict[str, Metadata],
        selections: SelectionCache[SelectedSeries],
    ) -> None:
        """Row i of labels is series ids[i]; the rows are in any order.

        What `selections` has of an index before this one is dropped.
        """
        self.metadata = metadata
        """By metric name."""
        self._ids = ids
        # It need not remember anything: `selections` does, and knows what it takes.
        self._postings = Postings(labels, max_bytes=0, most_kept=0)
        self._selections = selections
        self._generation = selections.replace_index()

    @property
    def size(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """About what labels, ids and postings take, the latter once they are made."""
        values = sum(len(c.interned.values) for c in self.labels.columns.values())
        codes = self.size * _POSTING_BYTES * len(self.labels.columns)
        return 16 * self.size + codes + _VALUE_BYTES * values

    @property
    def series_ids(self) -> Ids:
        """Row i of `labels` is series_ids[i]."""
        return self._ids

    @property
    def labels(self) -> LabelTable:
        """The labels of all series, in no order."""
        return self._postings.table

    def find(self, matchers: Sequence[Matcher], check: Check = never) -> SelectedSeries:
        """Selects the series that meet all matchers. ValueError if a regex is malformed.

        Returns the same object for the same matchers while it is remembered. check: see
        varve.promql.interrupt.
        """
        key = tuple(matchers)
        known = self._selections.get(self._generation, key)
        if known is None:
            known = self._selections.put(
                self._generation, key, self._select(self._rows(key, check))
            )
        return known

    def find_any(self, matchers: Sequence[Sequence[Matcher]]) -> SelectedSeries:
        """Selects the series that meet one of the lists; all series if there is no list."""
        if len(matchers) <= 1:
            return self.find(matchers[0] if matchers else ())
        return self._select(self._rows_any(matchers))

    def label_names(self, matchers: Sequence[Sequence[Matcher]]) -> list[str]:
        """Names of labels, sorted, that one of the series selected as by `find_any` has."""
        rows = self._rows_any(matchers)
        columns = self._postings.table.columns
        return sorted(n for n, column in columns.items() if column.codes[rows].any())

    def label_values(self, name: str, matchers: Sequence[Sequence[Matcher]]) -> list[str]:
        """Values of one label, sorted, over the series selected as by `find_any`."""
        column = self._postings.table.columns.get(name)
        if column is None:
            return []
        codes = np.unique(column.codes[self._rows_any(matchers)])
        return sorted(column.interned.values[code] for code in codes.tolist() if code)

    def _rows(self, matchers: Sequence[Matcher], check: Check = never) -> Rows:
        return self._postings.find(matchers, check)[0]

    def _rows_any(self, matchers: Sequence[Sequence[Matcher]]) -> Rows:
        if not matchers:
            return np.arange(self.size)
        return np.unique(np.concatenate([self._rows(one) for one in matchers]))

    def _select(self, rows: Rows) -> SelectedSeries:
        columns = {}
        for name, column in self._postings.table.columns.items():
            codes = column.codes[rows]
            if codes.any():
                columns[name] = Column(codes, column.interned)
        labels = LabelTable(len(rows), columns)
        order = labels.sort_order()
        ids = self._ids[rows][order]
        return SelectedSeries(ids, labels.take(order), np.argsort(ids))


class IndexBuilder:
    """Collects the rows of the table series. Not safe to share between threads."""

    def __init__(self, budget: MemoryBudget | None = None) -> None:
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._selections: SelectionCache[SelectedSeries] = SelectionCache(self._budget)
        self._counted = 0
        self._ids: Ids = np.empty(0, dtype=np.int64)
        self._sorted: Ids = self._ids
        self._interned: dict[str, Interned] = {}
        self._published: dict[str, Interned] = {}
        self._codes: dict[str, Codes] = {}
        self._metadata: dict[str, Metadata] = {}

    def add(self, rows: pa.Table) -> bool:
        """Adds rows with COLUMNS, in any order. Returns whether one defines a new series.

        Rows of one series_id differ in last_seen only, so the first that comes defines it.
        """
        fresh = self._undefined(rows)
        if fresh.num_rows == 0:
            return False
        start = len(self._ids)
        ids = fresh.column("series_id").to_numpy()
        self._ids = np.concatenate([self._ids, ids])
        self._sorted = np.sort(self._ids)
        own_rows = np.arange(start, len(self._ids))
        self._set_label(METRIC_NAME, own_rows, fresh.column("metric").combine_chunks())
        tags = fresh.column("tags").combine_chunks()
        offsets = tags.offsets.to_numpy()
        keys = tags.keys[offsets[0] : offsets[-1]].dictionary_encode()
        items = tags.items[offsets[0] : offsets[-1]]
        parents = np.repeat(own_rows, np.diff(offsets))
        key_codes = keys.indices.to_numpy()
        for code, name in enumerate(keys.dictionary.to_pylist()):
            mask = key_codes == code
            self._set_label(name, parents[mask], items.filter(pa.array(mask)))
        self._add_metadata(fresh)
        return True

    def index(self) -> SeriesIndex:
        """Makes the index of the series added so far; what is added later does not change it."""
        columns = {
            name: Column(_padded(codes, len(self._ids)), self._publish(name))
            for name, codes in self._codes.items()
        }
        labels = LabelTable(len(self._ids), columns)
        made = SeriesIndex(self._ids, labels, dict(self._metadata), self._selections)
        self._budget.add(INDEX, made.nbytes - self._counted)
        self._counted = made.nbytes
        return made

    def _publish(self, name: str) -> Interned:
        """The values of a label as they are now. An index that met a later one would look for its
        postings, which it cannot have.
        """
        growing, published = self._interned[name], self._published.get(name)
        if published is None or len(published.values) != len(growing.values):
            published = Interned()
            published.values, published.codes = list(growing.values), dict(growing.codes)
            self._published[name] = published
        return published

    def _undefined(self, rows: pa.Table) -> pa.Table:
        """The first row of each series_id that was not added before."""
        ids = rows.column("series_id").to_numpy()
        firsts = np.sort(np.unique(ids, return_index=True)[1])
        known = np.isin(ids[firsts], self._sorted)
        return rows.take(pa.array(firsts[~known]))

    def _set_label(self, name: str, rows: Rows, values: pa.Array) -> None:
        interned = self._interned.setdefault(name, Interned())
        codes = _padded(self._codes.get(name), len(self._ids)).copy()
        encoded = values.dictionary_encode()
        translated = [interned.code(value) for value in encoded.dictionary.to_pylist()]
        codes[rows] = np.array(translated, dtype=np.int32)[encoded.indices.to_numpy()]
        self._codes[name] = codes

    def _add_metadata(self, rows: pa.Table) -> None:
        """Keeps the metadata of each metric from the first series whose producer gave any."""
        columns = (rows.column(c).to_pylist() for c in ("metric", "type", "unit", "help"))
        for metric, type_, unit, text in zip(*columns, strict=True):
            said = Metadata(type_ or "unknown", unit or "", text or "")
            if self._metadata.get(metric, _NOTHING) == _NOTHING:
                self._metadata[metric] = said


_NOTHING = Metadata("unknown", "", "")


def _padded(codes: Codes | None, size: int) -> Codes:
    """The codes, with 0 (an absent label) for the rows added since."""
    if codes is None:
        return np.zeros(size, dtype=np.int32)
    return codes if len(codes) == size else np.pad(codes, (0, size - len(codes)))
