"""Reads a view whose head has some series only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varve.promql.interrupt import Check, never
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import SelectHints, Selection, TierChoice, WindowFunction
from varve.promql.syntax.ast import Matcher
from varve.query.reader import Reader
from varve.query.view import View


class NarrowReader:
    """Implements promql.storage.Storage over a view whose head has some series only: what selects
    others is read from files, all of it. Answers are those of a Reader over a full head.
    """

    def __init__(self, view: View, max_samples: int | None = None) -> None:
        """max_samples: as for Reader."""
        self._view = view
        self._narrow = Reader(view, max_samples=max_samples)
        self._whole = self._narrow
        if view.head_ids is not None:
            self._whole = Reader(view.without_head(), max_samples=max_samples)

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, hints: SelectHints
    ) -> Selection:
        return self._for(matchers).select(matchers, start_ms, end_ms, hints)

    def choose(
        self, matchers: Sequence[Matcher], windows: WindowFunction, check: Check = never
    ) -> TierChoice | None:
        return self._for(matchers).choose(matchers, windows, check)

    def count(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, check: Check = never
    ) -> tuple[int, int]:
        return self._for(matchers).count(matchers, start_ms, end_ms, check)

    def label_names(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        return self._whole.label_names(matchers, start_ms, end_ms)

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        return self._whole.label_values(name, matchers, start_ms, end_ms)

    def series(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> LabelTable:
        return self._whole.series(matchers, start_ms, end_ms)

    def _for(self, matchers: Sequence[Matcher]) -> Reader:
        """The reader that has all that the matchers select."""
        held = self._view.head_ids
        if held is None:
            return self._whole
        selected = self._view.index.find(tuple(matchers)).series_ids
        return self._narrow if np.isin(selected, held, assume_unique=True).all() else self._whole
