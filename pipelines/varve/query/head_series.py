"""Which series the head holds, where a process asks for few of them again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from varve.promql.kernels.types import I64
from varve.promql.syntax.ast import Matcher
from varve.query.series_index import SeriesIndex


@dataclass(frozen=True, slots=True)
class HeadSeries:
    """Series that one of some selectors selects. keep_ms: how long their samples are held."""

    selectors: tuple[tuple[Matcher, ...], ...]
    keep_ms: int

    def ids(self, index: SeriesIndex) -> I64:
        """Those that are known now, ascending."""
        found = [index.find(matchers).series_ids for matchers in self.selectors]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *found]))
