"""What `varve rules check` says of files beside their errors. Source: Prometheus, cmd/promtool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from varve.rules.label_sets import Labels, labels_of
from varve.rules.rule_file import Group, RecordingRule


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A name and labels that several rules have: they write the same series."""

    name: str
    labels: Labels


def rule_count(groups: Sequence[Group]) -> int:
    return sum(len(group.rules) for group in groups)


def duplicates(groups: Sequence[Group]) -> list[Duplicate]:
    """Rules whose name and labels another one before them has, each once."""
    seen: set[tuple[str, str, Labels]] = set()
    found: dict[Duplicate, None] = {}
    for group in groups:
        for rule in group.rules:
            kind = "record" if isinstance(rule, RecordingRule) else "alert"
            key = kind, rule.name, labels_of(rule.label_texts)
            if key in seen:
                found[Duplicate(rule.name, key[2])] = None
            seen.add(key)
    return list(found)
