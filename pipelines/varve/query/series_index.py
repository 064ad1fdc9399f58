"""The series index: which series there are, and which of them a list of matchers selects.

One thread adds rows of the table series to an `IndexBuilder`. The `SeriesIndex` it makes has the
series added so far, and may be shared between threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.promql.interrupt import Check, checked, never
from varve.promql.labels.label_table import METRIC_NAME, LabelTable
from varve.promql.labels.postings import Bools, Postings
from varve.promql.labels.text_order import sorted_texts
from varve.promql.syntax.ast import Matcher
from varve.query.index_labels import GrowingColumn, IndexLabels
from varve.query.memory import INDEX, UNBOUNDED, MemoryBudget
from varve.query.selection_cache import Key, SelectionCache

COLUMNS = ("series_id", "metric", "tags", "type", "unit", "help")
"""What is read of the table series."""

# A selection without its series: some objects.
_SELECTION_BYTES = 1_024
# A series in a selection: its ids, its place among the others, a tuple of its labels.
_SERIES_BYTES = 96
# A label of it: its code, its name and value in that tuple and in JSON.
_LABEL_BYTES = 124
# A series in the index, for each label it may have: its code, its row, its place in the postings.
_POSTING_BYTES = 12
# A label without its series: its columns and texts as objects.
_COLUMN_BYTES = 1_024
# What is known of regexes and values: a byte for each value that a label has.
_ACCEPTED_BYTES = 16 << 20
# New series at once of which it is looked up which remembered selections they belong to.
_FEW_NEW = 20_000
# A distinct value of a label: a short text, listed and looked up, while it grows and as published.
_VALUE_BYTES = 300
# Of columns in which a producer has said nothing.
_UNSAID = {
    "type": pa.array(["", "unknown", None]),
    "unit": pa.array(["", None]),
    "help": pa.array(["", None]),
}

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class Among:
    """Some rows of an index. Equal ones have the same token."""

    rows: Bools
    token: bytes


class SeriesIndex:
    """The series known at one moment, with the metric name as `__name__`. Safe to share."""

    def __init__(
        self,
        ids: Ids,
        by_id: Rows,
        labels: IndexLabels,
        metadata: dict[str, Metadata],
        selections: SelectionCache[SelectedSeries],
        numbering: int,
        before: SeriesIndex | None = None,
    ) -> None:
        """Row i of labels is series ids[i], in the order of registration; by_id has the rows in
        ascending order of id.

        before: the index of which this one has all rows, and more. What `selections` has of it is
        kept as far as none of these belongs to it; without one all is dropped.
        """
        self.metadata = metadata
        """By metric name."""
        self._ids = ids
        self._by_id = by_id
        # It need not remember selections: `selections` does, and knows what it takes.
        postings = None if before is None else before._postings  # noqa: SLF001 - the same class
        self._postings: Postings[IndexLabels] = Postings(labels, _ACCEPTED_BYTES, before=postings)
        self._selections = selections
        self._generation = selections.replace_index(self._unchanged_since(before))
        self.numbering = numbering
        """Indexes of one numbering have the same rows, as far as each goes."""

    @property
    def size(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """About what labels, ids and postings take, the latter once they are made."""
        columns = self.labels.columns.values()
        values = sum(len(c.interned.values) for c in columns)
        codes = sum(_POSTING_BYTES * len(c.codes) + _COLUMN_BYTES for c in columns)
        return 24 * self.size + codes + _VALUE_BYTES * values + _ACCEPTED_BYTES

    @property
    def series_ids(self) -> Ids:
        """Row i of `labels` is series_ids[i]."""
        return self._ids

    @property
    def labels(self) -> IndexLabels:
        """The labels of all series, in the order of registration."""
        return self._postings.table

    def rows_of(self, ids: Ids) -> Rows:
        """The rows of series, -1 of those that are not in the index."""
        if not self.size:
            return np.full(len(ids), -1)
        at = np.minimum(np.searchsorted(self._ids, ids, sorter=self._by_id), self.size - 1)
        rows = self._by_id[at]
        return np.where(self._ids[rows] == ids, rows, -1)

    def find(
        self, matchers: Sequence[Matcher], check: Check = never, among: Among | None = None
    ) -> SelectedSeries:
        """Selects the series that meet all matchers. ValueError if a regex is malformed.

        Returns the same object for the same matchers while it is remembered. among: those to
        select from, all if None. check: see varve.promql.interrupt.
        """
        key = tuple(matchers), None if among is None else among.token
        known = self._selections.get(self._generation, key)
        if known is None:
            found = self._select(self._rows(key[0], check, among), check)
            known = self._selections.put(self._generation, key, found)
        return known

    def find_any(
        self,
        matchers: Sequence[Sequence[Matcher]],
        check: Check = never,
        among: Among | None = None,
    ) -> SelectedSeries:
        """Selects the series that meet one of the lists; all series if there is no list."""
        if len(matchers) <= 1:
            return self.find(matchers[0] if matchers else (), check, among)
        return self._select(self._rows_any(matchers, check, among), check)

    def label_names(
        self,
        matchers: Sequence[Sequence[Matcher]],
        check: Check = never,
        among: Among | None = None,
    ) -> list[str]:
        """Names of labels, sorted, that one of the series selected as by `find_any` has."""
        if not matchers and among is None:
            return list(self.labels.columns)  # each came with a series that has it
        rows = self._rows_any(matchers, check, among)
        columns, names = self.labels.columns, self.labels.names_within(rows)
        return [n for n in checked(names, check, every=1) if columns[n].at(rows).any()]

    def label_values(
        self,
        name: str,
        matchers: Sequence[Sequence[Matcher]],
        check: Check = never,
        among: Among | None = None,
    ) -> list[str]:
        """Values of one label, sorted, over the series selected as by `find_any`."""
        column = self.labels.columns.get(name)
        if column is None:
            return []
        if not matchers and among is None:
            return sorted_texts([text for text in column.values() if text], check)
        codes = column.at(self._rows_any(matchers, check, among))
        check()
        texts = column.interned.values
        found = [texts[code] for code in np.flatnonzero(np.bincount(codes)).tolist() if code]
        return sorted_texts(found, check)

    def _rows(self, matchers: Sequence[Matcher], check: Check, among: Among | None) -> Rows:
        if among is not None and not matchers:
            return np.flatnonzero(among.rows)
        rows = self._postings.rows(matchers, check)
        return rows if among is None else rows[among.rows[rows]]

    def _unchanged_since(self, before: SeriesIndex | None) -> Callable[[Key], bool] | None:
        """Whether a selection of the index before is one of this; None if none is."""
        if before is None or not before.size or self.size - before.size > _FEW_NEW:
            return None
        fresh = Postings(self.labels.take(np.arange(before.size, self.size)))

        def is_unchanged(key: Key) -> bool:
            matchers, token = key
            # What a token names are rows that both have.
            return token is not None or not len(fresh.rows(matchers))

        return is_unchanged

    def _rows_any(
        self, matchers: Sequence[Sequence[Matcher]], check: Check, among: Among | None
    ) -> Rows:
        if not matchers:
            return self._rows((), check, among)
        found = [self._rows(one, check, among) for one in matchers]
        if len(found) == 1:
            return found[0]
        check()
        is_found = np.zeros(self.size, dtype=np.bool_)
        for rows in found:
            is_found[rows] = True
        return np.flatnonzero(is_found)

    def _select(self, rows: Rows, check: Check = never) -> SelectedSeries:
        check()
        labels = self.labels.take(rows)
        check()
        order = labels.sort_order(check)
        check()
        ids = self._ids[rows][order]
        return SelectedSeries(ids, labels.take(order), np.argsort(ids))


class IndexBuilder:
    """Collects the rows of the table series. Not safe to share between threads."""

    def __init__(self, budget: MemoryBudget | None = None) -> None:
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._selections: SelectionCache[SelectedSeries] = SelectionCache(self._budget)
        self._counted = 0
        self._ids: Ids
        self._by_id: Rows
        self._columns: dict[str, GrowingColumn]
        self._metadata: dict[str, Metadata]
        self._numbering: int
        self._made: SeriesIndex | None
        self.start_anew()

    def add(self, rows: pa.Table) -> bool:
        """Adds rows with COLUMNS, in any order. Returns whether one defines a new series.

        Rows of one series_id differ in last_seen only, so the first that comes defines it.
        """
        fresh = self._undefined(rows)
        if fresh.num_rows == 0:
            return False
        start = len(self._ids)
        ids = fresh.column("series_id").to_numpy()
        self._add_ids(ids)
        own_rows = np.arange(start, len(self._ids))
        self._add_label(METRIC_NAME, own_rows, fresh.column("metric").combine_chunks())
        tags = fresh.column("tags").combine_chunks()
        offsets = tags.offsets.to_numpy()
        keys = tags.keys[offsets[0] : offsets[-1]].dictionary_encode()
        items = tags.items[offsets[0] : offsets[-1]]
        parents = np.repeat(own_rows, np.diff(offsets))
        # By label, then by series: a label's part is found without a look at all others.
        by_label = np.argsort(keys.indices.to_numpy(), kind="stable")
        counts = np.bincount(keys.indices.to_numpy(), minlength=len(keys.dictionary))
        ends = np.cumsum(counts)
        names = keys.dictionary.to_pylist()
        for name, begin, end in zip(names, ends - counts, ends, strict=True):
            mine = by_label[begin:end]
            self._add_label(name, parents[mine], items.take(pa.array(mine)))
        self._add_metadata(fresh)
        return True

    def start_anew(self) -> None:
        """Forgets all series. Indexes that were made keep theirs."""
        self._ids = np.empty(0, dtype=np.int64)
        self._by_id = np.empty(0, dtype=np.int64)
        self._columns, self._metadata = {}, {}
        self._numbering, self._made = next(_NUMBERINGS), None

    def index(self) -> SeriesIndex:
        """Makes the index of the series added so far; what is added later does not change it."""
        size = len(self._ids)
        labels = IndexLabels(size, {n: grown.column(size) for n, grown in self._columns.items()})
        made = SeriesIndex(
            *(self._ids, self._by_id, labels, dict(self._metadata)),
            *(self._selections, self._numbering, self._made),
        )
        self._budget.add(INDEX, made.nbytes - self._counted)
        self._counted, self._made = made.nbytes, made
        return made

    def _add_ids(self, ids: Ids) -> None:
        """Appends them; their places among the sorted ones are found without sorting all anew."""
        order = np.argsort(ids)
        known = self._ids[self._by_id]
        at = np.searchsorted(known, ids[order])
        self._by_id = np.insert(self._by_id, at, order + len(self._ids))
        self._ids = np.concatenate([self._ids, ids])

    def _undefined(self, rows: pa.Table) -> pa.Table:
        """The first row of each series_id that was not added before."""
        ids = rows.column("series_id").to_numpy()
        firsts = np.sort(np.unique(ids, return_index=True)[1])
        wanted = ids[firsts]
        if not len(self._ids):
            return rows.take(pa.array(firsts))
        at = np.searchsorted(self._ids, wanted, sorter=self._by_id)
        known = self._ids[self._by_id[np.minimum(at, len(self._ids) - 1)]] == wanted
        return rows.take(pa.array(firsts[~known]))

    def _add_label(self, name: str, rows: Rows, values: pa.Array) -> None:
        grown = self._columns.setdefault(name, GrowingColumn())
        encoded = values.dictionary_encode()
        translated = [grown.interned.code(value) for value in encoded.dictionary.to_pylist()]
        grown.add(rows, np.array(translated, dtype=np.int32)[encoded.indices.to_numpy()])

    def _add_metadata(self, rows: pa.Table) -> None:
        """Keeps the metadata of each metric from the first series whose producer gave any."""
        metrics = rows.column("metric").combine_chunks().dictionary_encode()
        names = metrics.dictionary.to_pylist()
        for name in names:
            self._metadata.setdefault(name, NOTHING_KNOWN)
        unsaid = [pc.is_in(rows.column(name), values) for name, values in _UNSAID.items()]
        says = pc.invert(reduce(pc.and_, unsaid))
        places = np.flatnonzero(says.to_numpy())
        codes, firsts = np.unique(metrics.indices.to_numpy()[places], return_index=True)
        said = rows.select(list(_UNSAID)).take(pa.array(places[firsts])).to_pylist()
        for code, one in zip(codes.tolist(), said, strict=True):
            if self._metadata[names[code]] == NOTHING_KNOWN:
                self._metadata[names[code]] = Metadata(
                    one["type"] or NOTHING_KNOWN.type, one["unit"] or "", one["help"] or ""
                )


_NUMBERINGS = itertools.count()
