"""Pairs of Prometheus that send the same: of each cluster one replica's samples are taken.

A replica's series have the labels `cluster` and `__replica__`; the latter is taken off. The leader
is the replica that was seen first. When it has not been seen for a while, the next one seen leads.
Gateways that share a log of claims go by that instead, as long as they can read it: leaders.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

CLUSTER, REPLICA = "cluster", "__replica__"
NO_REPLICA = 0


class Replicas:
    """Who leads which cluster. Not to be shared by threads."""

    def __init__(self, failover_ms: int = 30_000) -> None:
        """failover_ms: how long a leader may be silent."""
        self._failover_ms = failover_ms
        self.is_agreed = False
        """Whether `lead` says who leads, and silence here means nothing."""
        self._numbers: dict[tuple[str, str], int] = {}
        self._of_cluster: dict[str, list[int]] = {}
        self._leaders: dict[str, int] = {}
        self._names: list[tuple[str, str]] = [("", "")]
        self._seen_ms: list[int] = [0]
        self.accepted = np.ones(16, np.uint8)
        """By a replica's number, whether its samples are taken."""
        self.seen = np.zeros(16, np.int64)
        """By a replica's number, samples since `note` was last called."""

    def told_apart(self, labels: Mapping[str, str]) -> tuple[dict[str, str], int]:
        """The labels by which replicas are one, and the number of the replica; NO_REPLICA for a
        series that is of none.
        """
        found = dict(labels)
        if CLUSTER not in found or REPLICA not in found:
            return found, NO_REPLICA
        name = found[CLUSTER], found.pop(REPLICA)
        if name not in self._numbers:
            self._add(name)
        return found, self._numbers[name]

    def leaders(self) -> dict[str, str]:
        """The leading replica of each cluster that has one."""
        return {cluster: self._names[n][1] for cluster, n in self._leaders.items()}

    def begin(self, now_ms: int) -> None:
        """Deposes leaders that were silent for too long; then any replica may lead. Called before
        a request is decoded.
        """
        if not self._leaders or self.is_agreed:
            return
        for cluster, leader in list(self._leaders.items()):
            if now_ms - self._seen_ms[leader] >= self._failover_ms:
                del self._leaders[cluster]
                self.accepted[self._of_cluster[cluster]] = 1

    def seen_since(self, since_ms: int) -> list[tuple[str, str]]:
        """Cluster and name of the replicas that sent something at since_ms or later."""
        return [
            name
            for name, seen_ms in zip(self._names[1:], self._seen_ms[1:], strict=True)
            if seen_ms >= since_ms
        ]

    def lead(self, cluster: str, replica: str) -> None:
        """Makes a replica lead, whatever was seen here."""
        if (cluster, replica) not in self._numbers:
            self._add((cluster, replica))
        self._elect(cluster, self._numbers[cluster, replica])

    def note(self, now_ms: int) -> None:
        """Takes account of the replicas that a request was from. Called once it is decoded."""
        if len(self._names) == 1:
            return
        for number in np.flatnonzero(self.seen[: len(self._names)]).tolist():
            self.seen[number] = 0
            self._seen_ms[number] = now_ms
            cluster = self._names[number][0]
            if number != NO_REPLICA and cluster not in self._leaders:
                self._elect(cluster, number)

    def _elect(self, cluster: str, number: int) -> None:
        self._leaders[cluster] = number
        self.accepted[self._of_cluster[cluster]] = 0
        self.accepted[number] = 1

    def _add(self, name: tuple[str, str]) -> None:
        number = len(self._names)
        if number == len(self.accepted):
            self.accepted = np.concatenate([self.accepted, np.ones_like(self.accepted)])
            self.seen = np.concatenate([self.seen, np.zeros_like(self.seen)])
        self._numbers[name] = number
        self._names.append(name)
        self._seen_ms.append(0)
        self._of_cluster.setdefault(name[0], []).append(number)
        self.accepted[number] = name[0] not in self._leaders
