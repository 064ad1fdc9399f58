"""Go's own functions, as HTML templates have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from varve.templates.budget import Budget
from varve.templates.builtins import BUILTINS, escape_html, escape_query
from varve.templates.go_format import sprint
from varve.templates.values import ANY, Function, SafeHtml, SafeUrl


def _html(budget: Budget, *values: Any) -> SafeHtml:
    """What is escaped by hand is not escaped again."""
    return SafeHtml(escape_html(sprint(values, budget)))


def _urlquery(budget: Budget, *values: Any) -> SafeUrl:
    return SafeUrl(escape_query(sprint(values, budget)))


HTML_BUILTINS: Final[Mapping[str, Function]] = {
    **BUILTINS,
    "html": Function((ANY,), _html, variadic=True, bounded=True),
    "urlquery": Function((ANY,), _urlquery, variadic=True, bounded=True),
}
