"""Makes records durable, many changes by one sync, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque

from varve.notify.journal import Journal
from varve.notify.records import Record

RETRY_S = 1.0
"""How long after a failure, such as a full disk, writing is tried again."""
LEAST_SNAPSHOT_BYTES = 16 << 20

_log = logging.getLogger("varve.notify.journal")

_Waiter = tuple[int, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class JournalWriter:
    """Takes records in their order. If the disk takes none, they wait here, and it is said."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._condition = threading.Condition()
        self._pending: deque[list[Record]] = deque()
        self._snapshot: list[Record] | None = None
        self._snapshot_bytes = LEAST_SNAPSHOT_BYTES // 2
        self._rotating: threading.Thread | None = None
        self._taken = 0
        self._durable = 0
        self._waiters: list[_Waiter] = []
        self._stopping = False
        self.failure = ""
        """Why nothing can be written now; "" if it can."""
        self.syncs = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, records: list[Record]) -> None:
        """Takes records over. Never blocks."""
        if records:
            with self._condition:
                self._pending.append(records)
                self._taken += 1
                self._condition.notify()

    async def durable(self) -> None:
        """Returns once everything that was put so far is on the disk, however long that takes."""
        with self._condition:
            if self._durable >= self._taken:
                return
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            self._waiters.append((self._taken, loop, future))
        await future

    @property
    def wants_snapshot(self) -> bool:
        """Whether the journal has become so long that a snapshot should replace it."""
        return (
            self._snapshot is None
            and self._rotating is None
            and self._journal.bytes_written > 2 * self._snapshot_bytes
        )

    def put_snapshot(self, records: list[Record]) -> None:
        """The whole state, as of everything that was put so far."""
        with self._condition:
            self._snapshot = records
            self._pending.append([])  # marks the place
            self._taken += 1
            self._condition.notify()

    def stop(self, timeout_s: float) -> bool:
        """Writes what is pending and ends; False if that took longer."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._pending:
                    if self._stopping:
                        self._finish_snapshot()
                        self._journal.close()
                        return
                    self._condition.wait()
                batch = list(self._pending)
            done = self._write(batch)
            with self._condition:
                for _ in range(done):
                    self._pending.popleft()
                self._durable += done
                ready = [w for w in self._waiters if w[0] <= self._durable]
                self._waiters = [w for w in self._waiters if w[0] > self._durable]
            for _, loop, future in ready:
                loop.call_soon_threadsafe(_resolve, future)
            if done < len(batch):
                with self._condition:
                    if self._stopping:
                        return
                    self._condition.wait(RETRY_S)

    def _write(self, batch: list[list[Record]]) -> int:
        """Writes a batch and syncs once; how many of its parts are durable."""
        written = 0
        try:
            for records in batch:
                if records:
                    self._journal.append(records)
                else:
                    self._rotate()
                written += 1
            self._journal.sync()
        except OSError as err:
            # What was appended stays; it is durable with the next sync, and is waited for.
            text = err.strerror or str(err)
            if text != self.failure:
                _log.error("the state cannot be stored: %s; it is kept in memory", text)
            self.failure = text
            return self._synced(written)
        if self.failure:
            _log.info("the state is stored again")
        self.failure = ""
        self.syncs += 1
        return written

    def _synced(self, written: int) -> int:
        try:
            self._journal.sync()
        except OSError:
            return 0
        return written

    def _rotate(self) -> None:
        """Begins a new journal, and writes the snapshot of what was before beside it."""
        records, number = self._snapshot, self._journal.rotate()
        self._snapshot = None
        if records is None:
            return
        self._rotating = threading.Thread(
            target=self._write_snapshot, args=(number, records), name="snapshot", daemon=True
        )
        self._rotating.start()

    def _write_snapshot(self, number: int, records: list[Record]) -> None:
        try:
            size = self._journal.write_snapshot(number, records)
            self._snapshot_bytes = max(size, LEAST_SNAPSHOT_BYTES // 2)
        except OSError as err:
            _log.error("no snapshot could be written: %s; the journal grows on", err)
        finally:
            self._rotating = None

    def _finish_snapshot(self) -> None:
        rotating = self._rotating
        if rotating is not None:
            rotating.join()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
