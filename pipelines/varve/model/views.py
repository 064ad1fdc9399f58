"""The SQL views over the tables, as schemas/views describes them, for Spark SQL and DuckDB."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Literal

from varve.model.resources import schemas_dir
from varve.model.window import TIERS, tier_named

Dialect = Literal["spark", "duckdb"]

VIEWS = ("raw", *(f"metrics_{tier.name}" for tier in TIERS), "rejects")

_METRICS = "metrics_"


@cache
def view_sql(name: str, dialect: Dialect) -> str:
    """The SELECT that a view stands for, over tables called by their names.

    KeyError if there is no such view.
    """
    if name not in VIEWS:
        raise KeyError(name)
    snippets = {key: _Snippet(text) for key, text in _snippets(dialect).items()}
    if not name.startswith(_METRICS):
        return _template(name).format_map(snippets)
    tier = tier_named(name.removeprefix(_METRICS))
    values = {"tier": tier.name, "width_ms": tier.width_ms}
    # The width is an argument of a snippet, where format does not look.
    template = _template("metrics").replace("{width_ms}", str(tier.width_ms))
    return template.format_map(snippets | values)


class _Snippet:
    """SQL with {0} for its argument; `{name[argument]}` in a template asks for it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __getitem__(self, argument: str) -> str:
        return self._text.format(argument)


def _snippets(dialect: Dialect) -> dict[str, str]:
    tables = tomllib.loads((schemas_dir() / "views" / "dialects.toml").read_text())
    return {**tables["common"], **tables[dialect]}


def _template(name: str) -> str:
    return (schemas_dir() / "views" / f"{name}.sql").read_text().strip()
