"""Writes to a spool from a thread of its own: what comes while it syncs is synced together."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from varve.gateway.spool import Spool, SpooledMessage

Done = Callable[[OSError | None], None]
"""Is told that messages are on disk, or why they are not. Called by the writer's thread."""

log = logging.getLogger("varve.gateway.spool")


class SpoolWriter:
    """May be used by any thread."""

    def __init__(self, spool: Spool, on_written: Callable[[], None]) -> None:
        """on_written: called when there is something to read."""
        self._spool = spool
        self._on_written = on_written
        self._waiting: queue.SimpleQueue[tuple[Sequence[SpooledMessage], Done] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    def append(self, messages: Sequence[SpooledMessage], done: Done) -> None:
        self._waiting.put((messages, done))

    def close(self) -> None:
        """Writes what is waiting, and ends."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            ends = False
            while not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    ends = True
                    break
                group.append(item)
            self._write(group)
            if ends:
                return

    def _write(self, group: Sequence[tuple[Sequence[SpooledMessage], Done]]) -> None:
        """Writes a group with one sync; one by one if there is no room for all of it."""
        try:
            self._spool.append([message for messages, _ in group for message in messages])
        except OSError as err:
            if len(group) > 1:
                for item in group:
                    self._write([item])
                return
            log.warning("cannot spool: %s", err)
            group[0][1](err)
            return
        self._on_written()
        for _, done in group:
            done(None)
