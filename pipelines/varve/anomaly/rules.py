"""How far a series may be from its baseline: conf/anomalies.toml."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model.errors import NeedsOperator
from varve.model.followed_file import FollowedFile
from varve.model.series_matcher import SeriesMatcher
from varve.model.toml_text import matcher_of, tree_of

log = logging.getLogger(__name__)

DIRECTIONS = ("both", "above", "below")
SEASONS = ("auto", "none")

MOST_SILENT_MINUTES = 1_440
"""The most that silent_minutes may be: so far back minutes are read for each that closes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The keys of a section; conf/anomalies.toml says what each is."""

    name: str = "default"
    threshold: float = 3.0
    extreme: float = 8.0
    windows: int = 3
    close_minutes: int = 10
    direction: str = "both"
    least_minutes: int = 1_440
    season: str = "auto"
    adaptive: bool = True
    floor: float = 0.001
    counter_floor: float = 1.0
    silent_minutes: int = 0
    group_by: tuple[str, ...] = ("job",)
    group_least: int = 5
    alert: bool = True
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Rules:
    """The default, and the rules of some series in the order in which they count."""

    default: Rule = Rule()
    matched: tuple[tuple[SeriesMatcher, Rule], ...] = ()
    by_name: Mapping[str, Rule] = field(default_factory=dict)

    @property
    def all(self) -> tuple[Rule, ...]:
        """The default, then the others: what `select` counts by."""
        return (self.default, *(rule for _, rule in self.matched))

    def select(self, series: pa.Table) -> npt.NDArray[np.int64]:
        """Number of the rule of each series in `all`. series: columns metric and tags."""
        found = np.zeros(series.num_rows, np.int64)
        for number in range(len(self.matched), 0, -1):
            mask = self.matched[number - 1][0].select(series)
            found[mask.to_numpy(zero_copy_only=False)] = number
        return found

    def named(self, name: str) -> Rule:
        """The rule of that name; the default if it is no more."""
        return self.by_name.get(name, self.default)


class RulesFile(FollowedFile[Rules]):
    """The rules in force. Not safe to share between threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """The first of the paths that exists is read. Raises NeedsOperator if it is malformed."""
        super().__init__("anomaly rules", paths, parse, Rules(), log)


def parse(text: str, origin: str) -> Rules:
    """Raises NeedsOperator with what is wrong and where."""
    tree = tree_of(text, origin)
    if unknown := tree.keys() - {"default", "rule"}:
        raise NeedsOperator(
            f"{origin}: there is no [{min(unknown)}]; there are [default] and [rule.NAME]"
        )
    default = _rule(Rule(), tree.get("default", {}), f"{origin}: default")
    sections = tree.get("rule", {})
    if not isinstance(sections, dict):
        raise NeedsOperator(f"{origin}: a section is wanted for each, [rule.NAME]")
    matched = tuple(
        _matched(name, default, section, f"{origin}: rule.{name}")
        for name, section in sections.items()
    )
    by_name = {rule.name: rule for _, rule in matched} | {default.name: default}
    return Rules(default, matched, by_name)


def _matched(name: str, default: Rule, section: Any, where: str) -> tuple[SeriesMatcher, Rule]:
    if name == "default":
        raise NeedsOperator(f"{where}: that is what [default] is called; take another name")
    if not isinstance(section, dict):
        raise NeedsOperator(f"{where}: a section is wanted")
    matcher = matcher_of(section, where, "debug_.*")
    rest = {key: value for key, value in section.items() if key != "match"}
    return matcher, replace(_rule(default, rest, where), name=name)


def _rule(base: Rule, section: Any, where: str) -> Rule:
    keys = [f.name for f in fields(Rule) if f.name != "name"]
    if not isinstance(section, dict):
        raise NeedsOperator(f"{where}: a section is wanted, with {', '.join(keys)}")
    if unknown := section.keys() - set(keys):
        raise NeedsOperator(f"{where}: there is no {min(unknown)}; there are {', '.join(keys)}")
    given = {key: _checked(key, value, f"{where}: {key}") for key, value in section.items()}
    rule = replace(base, **given)
    if rule.extreme < rule.threshold:
        raise NeedsOperator(f"{where}: extreme must be at least threshold")
    return rule


def _checked(key: str, value: Any, where: str) -> Any:
    if key in ("adaptive", "alert", "enabled"):
        if not isinstance(value, bool):
            raise NeedsOperator(f"{where}: {value!r} is not true or false")
        return value
    if key in ("direction", "season"):
        there = DIRECTIONS if key == "direction" else SEASONS
        if value not in there:
            raise NeedsOperator(f"{where}: {value!r} is none of {', '.join(there)}")
        return value
    if key == "group_by":
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise NeedsOperator(f"{where}: {value!r} is not a list of labels")
        return tuple(value)
    whole = key in ("windows", "close_minutes", "least_minutes", "silent_minutes", "group_least")
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise NeedsOperator(f"{where}: {value!r} is not a {'whole ' if whole else ''}number")
    least = 0 if key in ("floor", "counter_floor", "silent_minutes") else 1
    if value < least:
        raise NeedsOperator(f"{where}: {value!r} is below {least}")
    if key == "silent_minutes" and value > MOST_SILENT_MINUTES:
        raise NeedsOperator(f"{where}: {value!r} is above {MOST_SILENT_MINUTES}")
    return value
