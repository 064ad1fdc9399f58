"""Which replica leads each cluster, by a log of claims that all gateways read in one order.

A claim says that a replica was seen at a time. It makes the replica lead if none does, or the one
that does has not been claimed for a while; else it only says that the leader lives. So whoever has
read the same claims knows the same leaders, and no gateway asks another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_ASK_AGAIN_MS = 1_000
"""How long a claim that was sent may take to come back from the log before it is sent again."""


class Claim(NamedTuple):
    """A replica of a cluster was seen at at_ms, by the log's time."""

    cluster: str
    replica: str
    at_ms: int


class AgreedLeaders:
    """The leaders as of the claims so far. Not to be shared by threads."""

    def __init__(self, failover_ms: int) -> None:
        """failover_ms: how long a leader may be silent."""
        self._failover_ms = failover_ms
        self._leaders: dict[str, Claim] = {}
        self._asked: dict[tuple[str, str], int] = {}

    def apply(self, claim: Claim) -> bool:
        """Takes account of the next claim of the log. Whether another replica leads now."""
        held = self._leaders.get(claim.cluster)
        if held is None or claim.at_ms - held.at_ms >= self._failover_ms:
            self._leaders[claim.cluster] = claim
            return held is None or held.replica != claim.replica
        if held.replica == claim.replica:
            self._leaders[claim.cluster] = held._replace(at_ms=max(held.at_ms, claim.at_ms))
        return False

    def claims(self) -> list[Claim]:
        """Who leads each cluster, and when that was last claimed."""
        return list(self._leaders.values())

    def due(self, seen: Iterable[tuple[str, str]], now_ms: int) -> list[Claim]:
        """The claims to send, of those replicas of clusters that were seen lately."""
        found = []
        for cluster, replica in seen:
            held = self._leaders.get(cluster)
            if held is None:
                is_due = True
            elif held.replica == replica:
                is_due = now_ms - held.at_ms >= self._failover_ms // 3
            else:
                is_due = now_ms - held.at_ms >= self._failover_ms
            asked = self._asked.get((cluster, replica), 0)
            if is_due and now_ms - asked >= _ASK_AGAIN_MS:
                self._asked[cluster, replica] = now_ms
                found.append(Claim(cluster, replica, now_ms))
        return found
