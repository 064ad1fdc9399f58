"""Writes what is generated from the table of functions: `make functions`.

    python tests/unit/promql/function_documents.py

test_function_table.py checks that the files are what this would write.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.signatures import Accuracy, Aggregation, Family, Function, Trait
from varve.promql.syntax.tokens import MODIFIERS, WORD_OPERATORS

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "pipelines" / "varve" / "api" / "static"


def files() -> dict[Path, str]:
    """Every generated file and its text."""
    return {
        ROOT / "docs" / "functions.md": functions_page(),
        ROOT / "docs" / "tiers.md": tiers_page(),
        STATIC / "functions.js": completion(),
    }


def usage(entry: Function | Aggregation) -> str:
    """How a call is written, with the types of its arguments: `round(instant vector, [scalar])`."""
    if isinstance(entry, Aggregation):
        args = [] if entry.parameter is None else [entry.parameter.documented]
        return f"{entry.name}({', '.join([*args, 'instant vector'])})"
    args = [arg.documented for arg in entry.args]
    if entry.variadic:
        args[-1] = f"[{args[-1]}{'' if entry.variadic == 1 else ' ...'}]"
    return f"{entry.name}({', '.join(args)})"


def functions_page() -> str:
    return "\n".join([_FUNCTIONS_HEAD, *_function_tables(), *_aggregation_table()]) + "\n"


def _function_tables() -> Iterator[str]:
    for family in Family:
        yield from (f"## {family}", "", "| function | result |", "|---|---|")
        for entry in sorted(FUNCTIONS.values(), key=lambda entry: entry.name):
            if entry.family is family:
                yield f"| `{usage(entry)}` | {_text(entry)} |"
        yield ""


def _aggregation_table() -> Iterator[str]:
    yield from ("## Aggregations", "", _AGGREGATIONS_HEAD, "| aggregation | result |", "|---|---|")
    for entry in sorted(AGGREGATIONS.values(), key=lambda entry: entry.name):
        yield f"| `{usage(entry)}` | {_text(entry)} |"


def _text(entry: Function | Aggregation) -> str:
    marks = [entry.help]
    if entry.has(Trait.EXPERIMENTAL):
        marks.append("Experimental in Prometheus.")
    return " ".join(marks)


def tiers_page() -> str:
    rows = [
        f"| `{entry.name}` | {entry.tier.accuracy.value} | {', '.join(entry.tier.columns)} |"
        for entry in sorted(FUNCTIONS.values(), key=lambda entry: entry.name)
        if entry.kernel is not None
    ]
    others = {
        accuracy: ", ".join(
            f"`{entry.name}`"
            for entry in FUNCTIONS.values()
            if entry.kernel is None and entry.tier.accuracy is accuracy
        )
        for accuracy in Accuracy
    }
    tail = _TIERS_TAIL.format(exact=others[Accuracy.EXACT], raw=others[Accuracy.RAW_ONLY])
    paragraphs = [textwrap.fill(text, 100) for text in tail.split("\n\n")]
    return "\n".join([_TIERS_HEAD, *rows, "", "\n\n".join(paragraphs)]) + "\n"


def completion() -> str:
    """What the page's editor offers, as a JavaScript module."""
    entries = [
        {"name": entry.name, "usage": usage(entry), "help": entry.help}
        for entry in sorted([*FUNCTIONS.values(), *AGGREGATIONS.values()], key=lambda e: e.name)
    ]
    lines = [f"  {json.dumps(entry, ensure_ascii=False)},\n" for entry in entries]
    words = json.dumps(sorted(MODIFIERS | WORD_OPERATORS))
    return (
        "// Written by `make functions` from varve/promql/function_table.py.\n\n"
        f"export const FUNCTIONS = [\n{''.join(lines)}];\n\nexport const KEYWORDS = {words};\n"
    )


_FUNCTIONS_HEAD = """\
# PromQL functions

Written by `make functions` from varve/promql/function_table.py; a test keeps it true.

All functions of Prometheus 3 are there, experimental ones without a flag. An argument in brackets
may be left out, and one with dots may be given more than once. What rollups answer of them is in
[tiers.md](tiers.md).
"""

_AGGREGATIONS_HEAD = """\
An aggregation takes `by (labels)` or `without (labels)` before or behind its parentheses.
"""

_TIERS_HEAD = """\
# What each tier answers

Written by `make functions` from varve/promql/function_table.py; a test keeps it true.

A tier holds one row for each series and window of its width (1m, 5m, 1h, 1d), left-open like a
PromQL range: the window that ends at 10:05 holds the samples after 10:04 up to 10:05. A tier
answers a function of a range if the range, the step, the offset and the ends of the query are
multiples of its width: then the range is a whole number of windows, and their rows merge into the
row of the range. All tiers answer alike, as a row of a wider tier is the merge of rows below it.

Exact means: the value that the raw samples give, in every bit. Up to rounding means: sums are
carried in twice the precision, so where the two differ, the rows are as a rule nearer to the truth.
For sums of both signs 1e-12 is relative to the sum of the absolute values.

| function | from 1m, 5m, 1h, 1d | columns |
|---|---|---|"""

_TIERS_TAIL = """\
An instant selector asks for the newest sample within the lookback: exact at ends that are multiples
of the width, whatever the lookback, by last_ts, last_value and stale_ts: a series whose staleness
marker is later than its last sample has ended. So is {exact} of one.

Where a range is no whole number of windows, its edges are read from finer tiers or from samples,
and so is what lies past the frontier or waits for a repair: the answer is the same. Where these
have expired, ends of ranges are moved to the start of their window, and the answer says that it is
approximate and by how much; a range that is shorter than the windows left is refused (query.md).

Native histograms have no rollups: raw samples only, which {raw} need. So do functions over
subqueries, which the engine evaluates itself on the answers of the inner expression. All other
functions, aggregations and operators are as exact as their arguments."""


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
