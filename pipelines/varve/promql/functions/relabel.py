"""Computes label_replace and label_join, which change labels alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation.aggregation import is_label_name
from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.values import Matrix, Steps
from varve.promql.interrupt import checked
from varve.promql.labels.label_table import METRIC_NAME, LabelTable
from varve.promql.plan.nodes import FunctionCall, Text
from varve.promql.syntax.regexes import compile_anchored

_REFERENCE = re.compile(r"\$(?:\$|\{([0-9A-Za-z_]*)\}|([0-9A-Za-z_]+))")


def _text(node: FunctionCall, place: int) -> str:
    return cast(Text, node.args[place]).value


def _label_replace(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """Sets a label from parts of another one where that matches a regex."""
    target, template, source, pattern = (_text(node, place) for place in range(1, 5))
    try:
        regex = compile_anchored(pattern)
    except ValueError:
        raise QueryError(f"invalid regular expression in label_replace(): {pattern}") from None
    if not is_label_name(target):
        raise QueryError(f"invalid destination label name in label_replace(): {target}")
    matrix = ev.matrix(node.args[0], steps)
    old = matrix.labels.values_of(target)
    outcome: dict[str, str | None] = {}
    changed = np.zeros(matrix.series, dtype=np.bool_)
    values = []
    for row, text in checked(enumerate(matrix.labels.values_of(source)), ev.check):
        if text not in outcome:
            match = regex.fullmatch(text)
            outcome[text] = None if match is None else expand(template, match)
        new = outcome[text]
        changed[row] = new is not None
        values.append(old[row] if new is None else new)
    return _relabelled(ev, matrix, target, values, changed)


def expand(template: str, match: Any) -> str:
    """Replaces $1, ${1}, $name and ${name} in `template`, and $$ by a dollar sign.

    As in Go a name is the longest run of letters, digits and underscores, and what the regex has
    no group for becomes nothing.
    """

    def replace(reference: re.Match[str]) -> str:
        if reference[0] == "$$":
            return "$"
        name = reference[1] if reference[1] is not None else reference[2]
        if not name:
            return reference[0]
        try:
            found = match.group(int(name) if name.isdigit() else name)
        except (IndexError, KeyError):
            return ""
        return cast(str, found or "")

    return _REFERENCE.sub(replace, template)


def _label_join(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """Sets a label to the values of others, joined."""
    target, separator = _text(node, 1), _text(node, 2)
    sources = [_text(node, place) for place in range(3, len(node.args))]
    for source in sources:
        if not is_label_name(source):
            raise QueryError(f"invalid source label name in label_join(): {source}")
    if not is_label_name(target):
        raise QueryError(f"invalid destination label name in label_join(): {target}")
    matrix = ev.matrix(node.args[0], steps)
    columns = [matrix.labels.values_of(source) for source in sources]
    if columns:
        rows = checked(zip(*columns, strict=True), ev.check)
        values = [separator.join(row) for row in rows]
    else:
        values = [""] * matrix.series
    return _relabelled(ev, matrix, target, values, np.ones(matrix.series, dtype=np.bool_))


def _relabelled(
    ev: Evaluation,
    matrix: Matrix,
    target: str,
    values: list[str],
    changed: np.ndarray[Any, np.dtype[np.bool_]],
) -> Matrix:
    """The matrix with a label set. A metric name that is set stays to the end of the query."""
    labels: LabelTable = matrix.labels.with_label(target, values)
    drop_name = matrix.drop_name & ~changed if target == METRIC_NAME else matrix.drop_name
    result = Matrix(labels, matrix.values, matrix.present, drop_name, matrix.histograms)
    if labels.is_unique():
        return result
    return result.select(result.has_samples()).merged(ev.check)


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    "label_replace": _label_replace,
    "label_join": _label_join,
}
