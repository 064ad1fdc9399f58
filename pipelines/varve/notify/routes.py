"""The routing tree as it is walked: each node with what it inherits, and its key."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cache

from varve.notify.config.routing import ALL, RouteConfig
from varve.notify.matchers import Labels, Matcher, all_match, matchers_text
from varve.notify.records import Key
from varve.promql.syntax.literals import quote

GROUP_WAIT_MS = 30_000
GROUP_INTERVAL_MS = 300_000
REPEAT_INTERVAL_MS = 4 * 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    key: str
    """The matchers from the root down; the second of two equal siblings is told apart."""
    receiver: str
    group_by: tuple[str, ...] | None
    """Names, sorted; None groups by every label."""
    group_wait_ms: int
    group_interval_ms: int
    repeat_interval_ms: int
    mute_time_intervals: tuple[str, ...]
    active_time_intervals: tuple[str, ...]
    matchers: tuple[Matcher, ...]
    continues: bool
    labels: dict[str, str]
    """Templates that name a group's properties for its messages."""
    children: tuple[Route, ...]

    def group_labels(self, labels: Labels) -> Key:
        """The labels of an alert that name its group, sorted by name."""
        names = sorted(labels) if self.group_by is None else self.group_by
        return tuple((name, labels[name]) for name in names if name in labels)

    def matching(self, labels: Labels) -> list[Route]:
        """Where an alert that has come to this node goes: the deepest nodes that take it."""
        found: list[Route] = []
        for child in self.children:
            if all_match(child.matchers, labels):
                found += child.matching(labels)
                if not child.continues:
                    break
        return found or [self]


def route_tree(config: RouteConfig) -> Route:
    """The tree below the root of a configuration."""
    root = RouteConfig(
        receiver=config.receiver,
        group_by=config.group_by if config.group_by is not None else (),
        group_wait=GROUP_WAIT_MS if config.group_wait is None else config.group_wait,
        group_interval=config.group_interval or GROUP_INTERVAL_MS,
        repeat_interval=config.repeat_interval or REPEAT_INTERVAL_MS,
    )
    return _route(config, root, {}, "", 0)


@cache
def fallback_route(receiver: str) -> Route:
    """Where a receiver is told at once of others that fail, each of them a group."""
    return Route(
        key="fallback",
        receiver=receiver,
        group_by=("receiver",),
        group_wait_ms=0,
        group_interval_ms=GROUP_INTERVAL_MS,
        repeat_interval_ms=REPEAT_INTERVAL_MS,
        mute_time_intervals=(),
        active_time_intervals=(),
        matchers=(),
        continues=False,
        labels={},
        children=(),
    )


def group_key(route: Route, labels: Key) -> str:
    """Names a group in messages, in the notification log and in records."""
    return f"{route.key}:{labels_text(labels)}"


def labels_text(labels: Key) -> str:
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in labels) + "}"


def digest(root: Route) -> str:
    """Changes if a group could be another, or have other times."""
    text = hashlib.sha256()

    def add(route: Route) -> None:
        text.update(
            repr(
                (
                    route.key,
                    route.receiver,
                    None if route.group_by is None else list(route.group_by),
                    route.group_wait_ms,
                    route.group_interval_ms,
                    route.continues,
                )
            ).encode()
        )
        for child in route.children:
            add(child)

    add(root)
    return text.hexdigest()


def _route(
    config: RouteConfig,
    parent: RouteConfig,
    parent_labels: dict[str, str],
    prefix: str,
    ordinal: int,
) -> Route:
    def inherited(name: str) -> object:
        own = getattr(config, name)
        return getattr(parent, name) if own is None else own

    whole = parent.model_copy(
        update={
            "receiver": config.receiver or parent.receiver,
            **{
                name: inherited(name)
                for name in ("group_by", "group_wait", "group_interval", "repeat_interval")
            },
        }
    )
    labels = parent_labels | config.labels
    key = prefix + matchers_text(config.conditions) + (f"#{ordinal + 1}" if ordinal else "")
    seen: Counter[str] = Counter()
    children = []
    for child in config.routes:
        text = matchers_text(child.conditions)
        children.append(_route(child, whole, labels, key + "/", seen[text]))
        seen[text] += 1
    names = whole.group_by or ()
    return Route(
        key=key,
        receiver=whole.receiver,
        group_by=None if ALL in names else tuple(sorted(set(names))),
        group_wait_ms=whole.group_wait or 0,
        group_interval_ms=whole.group_interval or GROUP_INTERVAL_MS,
        repeat_interval_ms=whole.repeat_interval or REPEAT_INTERVAL_MS,
        mute_time_intervals=config.mute_time_intervals,
        active_time_intervals=config.active_time_intervals,
        matchers=config.conditions,
        continues=config.continue_,
        labels=labels,
        children=tuple(children),
    )
