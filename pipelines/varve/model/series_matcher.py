"""Which series something is about, by their labels: a regex for each label named.

Its text can be kept where there are no settings, such as in the name of a position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varve.model.identity import SeriesDefinition

METRIC_LABEL = "__name__"
"""The label that stands for the metric's name."""

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SeriesMatcher:
    """Series all of whose named labels match a regex. ValueError without labels, or if a regex is
    malformed.
    """

    labels: tuple[tuple[str, str], ...]
    """Name and pattern, sorted by name: RE2 syntax, anchored at both ends, `.` matches newlines.
    A label that a series does not have is empty."""

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("no label is named")
        for name, pattern in self.labels:
            try:
                pc.match_substring_regex(pa.array([""]), _anchored(pattern))
            except pa.ArrowInvalid as err:
                raise ValueError(f"the pattern of {name}: {err}") from err

    @classmethod
    def of(cls, patterns: Mapping[str, str]) -> SeriesMatcher:
        """By label. ValueError as above."""
        return cls(tuple(sorted(patterns.items())))

    @classmethod
    def of_metric(cls, metric: str) -> SeriesMatcher:
        """The series of one metric."""
        return cls(((METRIC_LABEL, re.escape(metric)),))

    @classmethod
    def from_text(cls, text: str) -> SeriesMatcher:
        """The matcher of a `text`. ValueError if it is none."""
        return cls.of(json.loads(text))

    @property
    def text(self) -> str:
        """The same for equal matchers, and for no others."""
        return json.dumps(dict(self.labels), separators=(",", ":"))

    @property
    def metric(self) -> str | None:
        """The one metric that the series can have; None if they may have several."""
        pattern = dict(self.labels).get(METRIC_LABEL, "")
        literal = _ESCAPED.sub(r"\1", pattern)
        return literal if literal and re.escape(literal) == pattern else None

    @property
    def selector(self) -> str:
        """What it selects, as PromQL would write it."""
        texts = [f"{name}=~{json.dumps(p, ensure_ascii=False)}" for name, p in self.labels]
        return "{" + ", ".join(texts) + "}"

    def matches(self, definition: SeriesDefinition) -> bool:
        """Whether the series is meant."""
        tags = {METRIC_LABEL: definition.metric, **dict(definition.tags)}
        return all(_matches(pattern, tags.get(name, "")) for name, pattern in self.labels)

    def select(self, series: pa.Table) -> pa.ChunkedArray:
        """Tells which rows of a table with the columns metric and tags are meant."""
        masks = [
            pc.match_substring_regex(_values(series, name), _anchored(pattern))
            for name, pattern in self.labels
        ]
        return reduce(pc.and_, masks)


def matching(pattern: str, values: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which values of a label a pattern of a SeriesMatcher matches, without holding the
    interpreter's lock meanwhile. Raises pa.ArrowInvalid for what is no pattern.
    """
    found = pc.match_substring_regex(pa.array(values, pa.large_string()), _anchored(pattern))
    mask: npt.NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return mask


def _values(series: pa.Table, label: str) -> pa.ChunkedArray:
    if label == METRIC_LABEL:
        return series["metric"]
    return pc.fill_null(pc.map_lookup(series["tags"], label, "first"), "")


def _anchored(pattern: str) -> str:
    return rf"\A(?s:{pattern})\z"


@lru_cache(maxsize=4_096)
def _matches(pattern: str, value: str) -> bool:
    found: bool = pc.match_substring_regex(pa.array([value]), _anchored(pattern))[0].as_py()
    return found
