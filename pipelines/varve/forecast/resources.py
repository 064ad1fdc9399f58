"""What is forecast and where it runs out: conf/capacity.toml."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varve.model.errors import NeedsOperator
from varve.model.followed_file import FollowedFile
from varve.model.series_matcher import SeriesMatcher
from varve.model.toml_text import matcher_of, tree_of

log = logging.getLogger(__name__)

ABOVE, BELOW = "above", "below"

_KEYS = ("match", "threshold", "reached", "floor", "cap", "alert")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level: `times` alone, or that part of the last value of the series of a metric that has the
    same labels.
    """

    times: float
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """Series that are forecast. threshold: None where only the forecast is wanted."""

    name: str
    matcher: SeriesMatcher
    threshold: Threshold | None = None
    reached: str = ABOVE
    floor: float | None = None
    cap: float | None = None
    alert: bool = True


class ResourcesFile(FollowedFile[tuple[Resource, ...]]):
    """The resources in force. Not safe to share between threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """The first of the paths that exists is read. Raises NeedsOperator if it is malformed."""
        super().__init__("resources", paths, parse, (), log)


def parse(text: str, origin: str) -> tuple[Resource, ...]:
    """By name. Raises NeedsOperator with what is wrong and where."""
    tree = tree_of(text, origin)
    if unknown := tree.keys() - {"resource"}:
        raise NeedsOperator(f"{origin}: there is no [{min(unknown)}]; there is [resource.NAME]")
    sections = tree.get("resource", {})
    if not isinstance(sections, dict):
        raise NeedsOperator(f"{origin}: a section is wanted for each, [resource.NAME]")
    return tuple(
        _resource(name, section, f"{origin}: resource.{name}")
        for name, section in sorted(sections.items())
    )


def _resource(name: str, section: Any, where: str) -> Resource:
    if not isinstance(section, dict):
        raise NeedsOperator(f"{where}: a section is wanted, with {', '.join(_KEYS)}")
    if unknown := section.keys() - set(_KEYS):
        raise NeedsOperator(f"{where}: there is no {min(unknown)}; there are {', '.join(_KEYS)}")
    matcher = matcher_of(section, where, "disk_.*")
    reached = section.get("reached", ABOVE)
    if reached not in (ABOVE, BELOW):
        raise NeedsOperator(f'{where}: reached is "{ABOVE}" or "{BELOW}", not {reached!r}')
    alert = section.get("alert", True)
    if not isinstance(alert, bool):
        raise NeedsOperator(f"{where}: alert is true or false, not {alert!r}")
    bounds = {
        key: _number(section[key], f"{where}: {key}") for key in ("floor", "cap") if key in section
    }
    if len(bounds) > 1 and bounds["floor"] >= bounds["cap"]:
        raise NeedsOperator(f"{where}: floor must be below cap")
    return Resource(
        name,
        matcher,
        _threshold(section["threshold"], where) if "threshold" in section else None,
        reached,
        bounds.get("floor"),
        bounds.get("cap"),
        alert,
    )


def _threshold(value: Any, where: str) -> Threshold:
    if not isinstance(value, dict):
        return Threshold(_number(value, f"{where}: threshold"))
    if value.keys() - {"metric", "times"} or not isinstance(value.get("metric"), str):
        raise NeedsOperator(
            f"{where}: threshold is a number or {{ metric = ..., times = 0.95 }}, not {value!r}"
        )
    times = _number(value.get("times", 1), f"{where}: threshold: times")
    return Threshold(times, value["metric"])


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NeedsOperator(f"{where}: {value!r} is not a number")
    return float(value)
