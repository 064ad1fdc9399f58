"""The outcomes of claims on their way out: to Kafka in a thread of its own, then into the table."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from varve.rules.instant import Sample
from varve.rules.running.changes import Change, to_table
from varve.rules.running.written_series import Batch

log = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where samples and events go."""

    def send(self, samples: Sequence[Sample], events: Sequence[Change]) -> bool:
        """Blocks until all of it is there; False if it was stopped before."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Outcome:
    """What a claim gave. claim: its id, "" where it belongs to none."""

    claim: str
    batch: Batch
    changes: list[Change]

    @property
    def sent_ms(self) -> int | None:
        """When Kafka had acknowledged everything, Unix ms."""
        return self.batch.sent_ms

    @property
    def events(self) -> list[Change]:
        """What the topic is told: what has happened, and no reviews."""
        return [change for change in self.changes if change.review is None]


class OutcomeSender:
    """Gives outcomes to an outlet, in their order."""

    def __init__(self, outlet: Outlet, now_ms: Callable[[], int]) -> None:
        self._outlet, self._now_ms = outlet, now_ms
        self._queue: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outcomes", daemon=True)
        self.error: BaseException | None = None
        self.sent = threading.Event()
        """Set whenever an outcome has been acknowledged."""

    def start(self) -> None:
        self._thread.start()

    def put(self, outcome: Outcome) -> None:
        self._queue.put(outcome)

    def stop(self, timeout_s: float) -> None:
        """Sends what is there, for up to timeout_s."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (outcome := self._queue.get()) is not None:
                if not self._outlet.send(outcome.batch.samples, outcome.events):
                    return
                outcome.batch.sent_ms = self._now_ms()
                self.sent.set()
        except BaseException as err:
            self.error = err
            self.sent.set()
            raise


def rows_of(over: Iterable[Outcome]) -> pa.Table:
    """Rows of the table alerts: the changes of some outcomes."""
    return to_table(change for outcome in over for change in outcome.changes)


def claims_of(over: Iterable[Outcome]) -> list[str]:
    """Ids of the claims of some outcomes."""
    return [outcome.claim for outcome in over if outcome.claim]
