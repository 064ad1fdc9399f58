"""What people say of episodes, and what follows: how precise each rule is, and a better one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from varve.anomaly.episode_rows import EPISODES, newest_episodes
from varve.anomaly.episodes import IS_WITHDRAWN
from varve.model.errors import BadRequest
from varve.model.schema import table_schema
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table

LABELS = "episode_labels"
REAL, EXPECTED = "real", "expected"

_LEAST = 5
"""Labelled episodes of a rule from which on a threshold is proposed."""


@dataclass(frozen=True, slots=True)
class RuleQuality:
    """How the episodes of a rule were judged by people."""

    rule: str
    episodes: int
    real: int
    expected: int
    threshold: float | None
    """The least threshold on the score of the furthest minute at which the real ones among the
    labelled are the most, weighed against those that would be lost (the F1 score); None if too few
    are labelled, or all alike."""

    @property
    def precision(self) -> float | None:
        """Share of the labelled ones that are real; None without any."""
        labelled = self.real + self.expected
        return self.real / labelled if labelled else None


def put_label(store: Store, prefix: str, label: str, now_ms: int) -> dict[str, Any]:
    """Labels the one episode whose identity begins with a prefix; the row of its last event.

    Raises BadRequest if there is none, or several.
    """
    there = newest_episodes(snapshot(store, EPISODES))
    found = [row for row in there if prefix and row["episode_id"].startswith(prefix)]
    if len(found) != 1:
        how = "no episode begins" if not found else f"{len(found)} episodes begin"
        raise BadRequest(f"{how} with {prefix!r}: `varve anomalies list` names them")
    row = {
        "episode_id": found[0]["episode_id"],
        "series_id": found[0]["series_id"],
        "label": label,
        "labelled_at": now_ms,
    }
    table, turn = Table(store, LABELS), positions.turn(LABELS)
    held = table.position(turn)
    file = write_file(store, LABELS, pa.Table.from_pylist([row], table_schema(LABELS).arrow))
    commit(table, [file], transactions={turn: Step(held, 0 if held is None else held + 1)})
    return found[0]


def labels(store: Store) -> dict[str, str]:
    """The last label of each episode that has one."""
    rows = snapshot(store, LABELS).scan(Bounds()).to_pylist()
    ordered = sorted(rows, key=lambda row: row["labelled_at"])
    return {row["episode_id"]: row["label"] for row in ordered}


def quality(episodes: Iterable[Mapping[str, Any]], said: Mapping[str, str]) -> list[RuleQuality]:
    """By rule, those with most episodes first. episodes: their newest rows. Pure."""
    by_rule: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in episodes:
        if row["state"] != IS_WITHDRAWN:
            by_rule[row["rule"]].append(row)
    found = []
    for rule, rows in by_rule.items():
        judged = [
            (abs(row["score"]), said[row["episode_id"]] == REAL)
            for row in rows
            if row["episode_id"] in said
        ]
        real = sum(is_real for _, is_real in judged)
        found.append(RuleQuality(rule, len(rows), real, len(judged) - real, best_threshold(judged)))
    return sorted(found, key=lambda q: (-q.episodes, q.rule))


def best_threshold(judged: Iterable[tuple[float, bool]]) -> float | None:
    """The score from which on episodes had best been told, by pairs of a score and whether it was
    real: the least with the greatest F1.
    """
    ordered = sorted(judged)
    real = sum(is_real for _, is_real in ordered)
    if len(ordered) < _LEAST or real in (0, len(ordered)):
        return None
    best, chosen = -math.inf, None
    for score in sorted({score for score, _ in ordered}):
        kept = [is_real for other, is_real in ordered if other >= score]
        f1 = 2 * sum(kept) / (len(kept) + real)
        if f1 > best:
            best, chosen = f1, score
    return chosen
