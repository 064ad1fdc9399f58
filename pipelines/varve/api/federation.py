"""The newest sample of each selected series, in the text that a Prometheus scrapes.

Source: Prometheus 3, web/federate.go; its text formats 0.0.4 and 1.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Final

import numpy as np

from varve.api.call import Answer, Body, Call
from varve.model.staleness import is_stale
from varve.promql import result_json
from varve.promql.interrupt import Check, checked, sorted_with_checks
from varve.promql.labels.label_table import METRIC_NAME, Labels
from varve.promql.storage import SelectHints, Selection
from varve.query.derived_storage import storage_of

# About what a series takes while its line is made.
_LINE_BYTES: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*", re.ASCII)
_NO_NAME: Final = re.compile(r"^[0-9]|[^A-Za-z0-9_:]", re.ASCII)
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Newest = tuple[int, float]
"""A time, Unix ms, and a value."""


def federate(call: Call) -> Answer:
    """Answers with the newest sample within the lookback of each series that match[] selects; with
    nothing without it.

    A series that has ended is left out. Names that Prometheus 2 does not know are quoted for a
    client that takes them, and have underscores for others.
    """
    found: dict[Labels, Newest] = {}
    reader = call.reader
    storage = storage_of(reader)
    check = call.options.check_running
    for matchers in call.parameters.matchers(required=False):
        start_ms = call.now_ms - call.options.lookback_ms
        selection = storage.select(matchers, start_ms, call.now_ms, SelectHints(check=check))
        call.options.memory.take(selection.labels.size * _LINE_BYTES)
        labels = selection.labels.labels(check)
        for row, newest in checked(_newest(selection, start_ms, call.now_ms), check):
            found[labels[row]] = newest
    quotes = "escaping=allow-utf-8" in call.accept
    text = "".join(checked(_lines(found, check, quotes=quotes), check))
    kind = "version=1.0.0; escaping=allow-utf-8" if quotes else "version=0.0.4"
    body = Body(text.encode("utf-8", "replace"), f"text/plain; charset=utf-8; {kind}")
    return Answer(body, samples=len(found), provenance=reader.provenance)


def _newest(selection: Selection, start_ms: int, end_ms: int) -> Iterator[tuple[int, Newest]]:
    """Row and newest sample in (start_ms, end_ms] of each series that has not ended there."""
    samples = selection.samples
    for row, (begin, end) in enumerate(zip(samples.begins, samples.ends, strict=True)):
        last = begin + int(np.searchsorted(samples.ts[begin:end], end_ms, "right")) - 1
        if last < begin or samples.ts[last] <= start_ms or is_stale(samples.values[[last]])[0]:
            continue
        yield row, (int(samples.ts[last]), float(samples.values[last]))


def _lines(found: dict[Labels, Newest], check: Check, *, quotes: bool) -> Iterator[str]:
    """The lines, sorted by metric and labels, with a type for each metric."""
    names = [(dict(labels).get(METRIC_NAME, ""), labels) for labels in checked(found, check)]
    named = sorted_with_checks(names, check)
    for metric, group in groupby(named, key=lambda entry: entry[0]):
        if not metric:
            continue  # such a line could not be read
        name = _name(metric, quotes=quotes)
        yield f"# TYPE {name} untyped\n"
        for _, labels in group:
            ms, value = found[labels]
            (number,) = result_json.floats(np.array([value]))
            yield f"{_series(name, labels, quotes=quotes)} {number.decode()} {ms}\n"


def _series(name: str, labels: Labels, *, quotes: bool) -> str:
    """Name and labels. A series without the label instance gets an empty one, so that a scrape
    that honours labels does not give it the one of this service.
    """
    others = {k: v for k, v in labels if k != METRIC_NAME}
    others.setdefault("instance", "")
    pairs = [f'{_name(k, quotes=quotes)}="{v.translate(_ESCAPES)}"' for k, v in others.items()]
    if name.startswith('"'):
        return "{" + ",".join([name, *pairs]) + "}"
    return name + "{" + ",".join(pairs) + "}"


def _name(name: str, *, quotes: bool) -> str:
    if _NAME.fullmatch(name):
        return name
    return f'"{name.translate(_ESCAPES)}"' if quotes else _NO_NAME.sub("_", name)
