"""Series selectors by themselves, as match[] and --match take them, and as text."""

from __future__ import annotations

from collections.abc import Sequence

from varve.promql.syntax.ast import Matcher, VectorSelector
from varve.promql.syntax.cursor import ParseError
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import matcher_text
from varve.query.series_index import COLUMNS, Ids, IndexBuilder
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """The matchers of a plain vector selector. ValueError if it is something else."""
    try:
        tree = parse(text)
    except ParseError as err:
        raise ValueError(str(err)) from err
    if not isinstance(tree, VectorSelector) or tree.offset is not None or tree.at is not None:
        raise ValueError(f"{text!r} is not a plain vector selector")
    return tree.matchers


def selector_text(matchers: Sequence[Matcher]) -> str:
    """A selector as it could be written."""
    return "{" + ", ".join(map(matcher_text, matchers)) + "}"


def selected_ids(series: Snapshot, selectors: Sequence[Sequence[Matcher]]) -> Ids:
    """Ids, sorted, of the series that one of the selectors selects. series: of the table series."""
    builder = IndexBuilder()
    for file in series.files:
        builder.add(series.scan(Bounds(), COLUMNS, [file]))
    found = builder.index().find_any(selectors)
    return found.series_ids[found.by_id]
