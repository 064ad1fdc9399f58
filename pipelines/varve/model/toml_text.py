"""What files of a person's choices, in TOML, have in common: how they are read, how they name
series.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from varve.model.errors import NeedsOperator
from varve.model.series_matcher import SeriesMatcher


def tree_of(text: str, origin: str) -> dict[str, Any]:
    """The tables of a text. Raises NeedsOperator with what is wrong and where."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as err:
        raise NeedsOperator(f"{origin} is not valid TOML: {err}") from err


def matcher_of(section: Mapping[str, Any], where: str, example: str) -> SeriesMatcher:
    """The series that a section's `match` selects. example: a regex of metrics, for who has none.
    Raises NeedsOperator with what is wrong and where.
    """
    patterns = section.get("match")
    if not isinstance(patterns, dict) or not all(isinstance(p, str) for p in patterns.values()):
        raise NeedsOperator(
            f'{where}: match: a regex for each label is wanted, {{ __name__ = "{example}" }}'
        )
    try:
        return SeriesMatcher.of(patterns)
    except ValueError as err:
        raise NeedsOperator(f"{where}: match: {err}") from err
