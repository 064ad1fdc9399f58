"""Go's own functions, as HTML templates have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from varve.templates.budget import Budget
from varve.templates.builtins import BUILTINS, escape_html, escape_query, joined
from varve.templates.values import ANY, EscapedHtml, Function, SafeUrl


def _html(budget: Budget, *values: Any) -> EscapedHtml:
    """What is escaped by hand is not escaped again."""
    raw = joined(values, budget)
    made = EscapedHtml(escape_html(raw))
    made.raw = raw
    return made


def _urlquery(budget: Budget, *values: Any) -> SafeUrl:
    return SafeUrl(escape_query(joined(values, budget)))


HTML_BUILTINS: Final[Mapping[str, Function]] = {
    **BUILTINS,
    "html": Function((ANY,), _html, variadic=True, bounded=True),
    "urlquery": Function((ANY,), _urlquery, variadic=True, bounded=True),
}
