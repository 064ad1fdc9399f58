"""What one metric, and all of them, may cost: conf/limits.toml, read again when it changes.

Limits are on series that are new: those that are known keep flowing. Labels are judged by the task
that meets a new series, numbers by the registry, in one commit with the registration: so a number
is never exceeded, by however many drivers and tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from varve.ingest.retention_classes import RetentionClass, parse_classes
from varve.model.errors import NeedsOperator
from varve.model.exceeded import Exceeded
from varve.model.followed_file import FollowedFile
from varve.model.identity import SeriesDefinition
from varve.model.toml_text import tree_of

log = logging.getLogger(__name__)

UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class MetricLimits:
    """What one metric may cost. series: its active series. labels: labels of one series. name_bytes
    and value_bytes: length of each name and value in UTF-8. max_age_s: how many seconds before now
    a sample may be; never more than retention allows, which None stands for. max_future_s: how many
    seconds after now; None: as the settings say.
    """

    series: int = UNLIMITED
    labels: int = UNLIMITED
    name_bytes: int = UNLIMITED
    value_bytes: int = UNLIMITED
    max_age_s: int | None = None
    max_future_s: int | None = None

    def exceeded_by(self, definition: SeriesDefinition) -> Exceeded | None:
        """The first limit on labels that a series exceeds, by its key; None if none."""
        if len(definition.tags) > self.labels:
            return Exceeded("labels", self.labels, len(definition.tags))
        for name in (definition.metric, *(name for name, _ in definition.tags)):
            if _longer(name, self.name_bytes):
                return Exceeded("name_bytes", self.name_bytes, len(name.encode()))
        for _, value in definition.tags:
            if _longer(value, self.value_bytes):
                return Exceeded("value_bytes", self.value_bytes, len(value.encode()))
        return None


@dataclass(frozen=True, slots=True)
class Limits:
    """What metrics may cost. series: active series of all metrics together. metrics: limits of the
    metrics that do not have the default's, by name. classes: series that are kept for a shorter
    time than the others.
    """

    series: int = UNLIMITED
    default: MetricLimits = MetricLimits()
    metrics: Mapping[str, MetricLimits] = field(default_factory=dict)
    classes: tuple[RetentionClass, ...] = ()

    def of(self, metric: str) -> MetricLimits:
        return self.metrics.get(metric, self.default)

    def name(self, metric: str, key: str) -> str:
        """Where a limit of a metric stands in limits.toml: default.KEY, or metric.KEY if the
        metric's own section says otherwise.
        """
        own = getattr(self.of(metric), key) != getattr(self.default, key)
        return f"{'metric' if own else 'default'}.{key}"


class LimitsFile(FollowedFile[Limits]):
    """The limits in force. Not safe to share between threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """The first of the paths that exists is read; without any there are no limits.

        Raises NeedsOperator if it is not well-formed.
        """
        super().__init__("limits", paths, parse, Limits(), log)


def parse(text: str, origin: str) -> Limits:
    """Raises NeedsOperator with what is wrong and where."""
    tree = tree_of(text, origin)
    _require_names(tree, ("total", "default", "metric", "retention"), origin)
    total = tree.get("total", {})
    _require_names(total, ("series",), f"{origin}: total")
    default = _metric(MetricLimits(), tree.get("default", {}), f"{origin}: default")
    sections = tree.get("metric", {})
    if not isinstance(sections, dict):
        raise NeedsOperator(f"{origin}: metric: a section is wanted for each, [metric.NAME]")
    metrics = {
        name: _metric(default, section, f"{origin}: metric.{name}")
        for name, section in sections.items()
    }
    return Limits(
        _bound(total.get("series", UNLIMITED), f"{origin}: total"),
        default,
        metrics,
        parse_classes(tree.get("retention", {}), origin),
    )


def _metric(base: MetricLimits, section: Any, where: str) -> MetricLimits:
    _require_names(section, [f.name for f in fields(MetricLimits)], where)
    return replace(base, **{name: _bound(value, where) for name, value in section.items()})


def _require_names(section: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(section, dict):
        raise NeedsOperator(f"{where}: a section is wanted, with {', '.join(names)}")
    if unknown := section.keys() - set(names):
        raise NeedsOperator(f"{where}: there is no {min(unknown)}; there are {', '.join(names)}")


def _bound(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise NeedsOperator(f"{where}: {value!r} is not a whole number from 0 on")
    return value


def _longer(text: str, size: int) -> bool:
    # A character is at most 4 bytes: most texts need not be encoded to be told short enough.
    return 4 * len(text) > size and len(text.encode()) > size
