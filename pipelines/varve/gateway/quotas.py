"""What each sender may send a second: samples, bytes, new series."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

# A sender may save up so many seconds of what it may send.
_BURST_S = 10.0
_MOST_SENDERS = 100_000


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one sender, a second; math.inf: no bound."""

    samples: float = math.inf
    bytes: float = math.inf
    new_series: float = math.inf


class _Bucket:
    """Fills with time, up to a bound; may be overdrawn by one request."""

    __slots__ = ("_at_s", "_level", "_rate")

    def __init__(self, rate: float, now_s: float) -> None:
        self._rate = rate
        self._level = rate * _BURST_S
        self._at_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until it may be taken from; 0 if now."""
        if self._rate == math.inf:
            return 0.0
        self._level = min(self._level + (now_s - self._at_s) * self._rate, self._rate * _BURST_S)
        self._at_s = now_s
        if self._level > 0:
            return 0.0
        return (1.0 - self._level) / self._rate if self._rate else 3600.0

    def take(self, amount: float) -> None:
        if self._rate != math.inf:
            self._level -= amount


class _Sender:
    __slots__ = ("bulk_samples", "bytes", "critical_samples", "new_series")

    def __init__(self, quota: Quota, now_s: float) -> None:
        self.bytes = _Bucket(quota.bytes, now_s)
        self.bulk_samples = _Bucket(quota.samples, now_s)
        self.critical_samples = _Bucket(quota.samples, now_s)
        self.new_series = _Bucket(quota.new_series, now_s)


class Allowance:
    """What the senders that a request is from, its token and its address, may send now."""

    __slots__ = ("_now_s", "_senders")

    def __init__(self, senders: tuple[_Sender, ...], now_s: float) -> None:
        self._senders = senders
        self._now_s = now_s

    def wait_for_bytes(self) -> float:
        """Seconds until bytes may be sent; 0 if now. So with samples."""
        return max((s.bytes.wait_s(self._now_s) for s in self._senders), default=0.0)

    def wait_for_samples(self) -> float:
        return max((s.bulk_samples.wait_s(self._now_s) for s in self._senders), default=0.0)

    def wait_for_critical(self) -> float:
        return max((s.critical_samples.wait_s(self._now_s) for s in self._senders), default=0.0)

    def may_define(self) -> bool:
        """Whether one more new series may be sent; it is taken account of."""
        if any(s.new_series.wait_s(self._now_s) > 0 for s in self._senders):
            return False
        for sender in self._senders:
            sender.new_series.take(1)
        return True

    def take(self, *, size: int, bulk: int, critical: int) -> None:
        """Takes account of a request: its bytes, and its samples of each topic."""
        for sender in self._senders:
            sender.bytes.take(size)
            sender.bulk_samples.take(bulk)
            sender.critical_samples.take(critical)


class Quotas:
    """Not to be shared by threads."""

    def __init__(self, now_s: Callable[[], float], per_token: Quota, per_address: Quota) -> None:
        """now_s: seconds by a monotonic clock."""
        self._now_s = now_s
        self._quotas = {"token": per_token, "address": per_address}
        self._senders: dict[tuple[str, str], _Sender] = {}

    def of(self, token: str, address: str) -> Allowance:
        """That of a request. token: the name of its token or user, "" for none."""
        now_s = self._now_s()
        named = [("address", address)] + ([("token", token)] if token else [])
        return Allowance(tuple(self._sender(*name, now_s) for name in named), now_s)

    def _sender(self, kind: str, name: str, now_s: float) -> _Sender:
        found = self._senders.get((kind, name))
        if found is None:
            if len(self._senders) >= _MOST_SENDERS:
                del self._senders[next(iter(self._senders))]
            found = self._senders[kind, name] = _Sender(self._quotas[kind], now_s)
        return found
