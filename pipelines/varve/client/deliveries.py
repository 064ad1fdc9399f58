"""What a producer has accepted, and what has become of it: counts, and room for what waits."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from varve.client.messages import Encoder, Message

# The longest time that one can wait for a lock.
_FOREVER_S = threading.TIMEOUT_MAX


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of samples since the producer was made: accepted = acknowledged + lost + waiting."""

    accepted: int
    acknowledged: int
    lost: int
    """Refused for lack of room, refused by who takes them, or not acknowledged in time."""
    last_error: str
    """Why the latest loss happened; empty if there was none."""

    @property
    def waiting(self) -> int:
        return self.accepted - self.acknowledged - self.lost


class Deliveries(ABC):
    """Sends messages, and counts what becomes of their samples. May be shared by threads."""

    partitions: int
    """Messages may be for so many."""

    def __init__(self, buffer_bytes: int) -> None:
        """buffer_bytes: of messages that may wait."""
        self._buffer_bytes = buffer_bytes
        self._changed = threading.Condition()
        self._accepted = self._acknowledged = self._lost = self._waiting_bytes = 0
        self._last_error = ""
        self._closed = False

    def take(self, samples: int) -> None:
        """Counts samples as accepted. Each must be sent or dropped later."""
        with self._changed:
            self._accepted += samples

    def drop(self, samples: int, why: str) -> None:
        """Counts accepted samples as lost."""
        if samples:
            with self._changed:
                self._lose(samples, why)

    def send(self, message: Message, encoder: Encoder, deadline: float) -> bool:
        """Sends a message of accepted samples; False if its samples are lost.

        Blocks until `deadline` (monotonic, s; may be infinite) for room in the buffer.
        """
        size = len(message.value)
        with self._changed:
            while self._waiting_bytes and self._waiting_bytes + size > self._buffer_bytes:
                left = deadline - time.monotonic()
                if self._closed:  # counted as lost when it closed
                    return False
                if left <= 0:
                    self._lose(
                        message.samples,
                        f"{self._waiting_bytes} bytes wait to be sent, no room for more",
                    )
                    return False
                self._changed.wait(min(left, _FOREVER_S))
            self._waiting_bytes += size
        return self._hand_on(message, encoder)

    def flush(self, timeout_s: float) -> bool:
        """Blocks until no message waits any more; False if one still does after timeout_s."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting_bytes:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _FOREVER_S))
        return True

    def close(self, timeout_s: float) -> None:
        """Sends what waits, for up to timeout_s. What is left then is lost, and counted."""
        self.flush(timeout_s)
        self._disconnect()
        with self._changed:
            self._closed = True
            left = self._accepted - self._acknowledged - self._lost
            if left:
                self._lose(left, f"not acknowledged within {timeout_s:g} s of closing")
            # Whoever waits for room must not wait for ever.
            self._changed.notify_all()

    def counts(self) -> Counts:
        with self._changed:
            return Counts(self._accepted, self._acknowledged, self._lost, self._last_error)

    @abstractmethod
    def _hand_on(self, message: Message, encoder: Encoder) -> bool:
        """Begins to send a message that there is room for, for `_settle` to end; False if its
        samples are lost.
        """

    @abstractmethod
    def _disconnect(self) -> None:
        """Sends nothing more."""

    def _settle(self, message: Message, encoder: Encoder, why: str) -> None:
        """Ends a message. why: its samples are lost; empty: it is acknowledged."""
        if not why and message.defines:
            encoder.delivered(message)
        with self._changed:
            if self._closed:  # counted as lost when it closed
                return
            self._waiting_bytes -= len(message.value)
            if why:
                self._lose(message.samples, why)
            else:
                self._acknowledged += message.samples
            self._changed.notify_all()

    def _lose(self, samples: int, why: str) -> None:
        self._lost += samples
        self._last_error = why


def deadline_after(wait_s: float) -> float:
    """The time wait_s seconds from now, by the monotonic clock; math.inf if wait_s is."""
    return math.inf if wait_s == math.inf else time.monotonic() + wait_s
