"""Executors of Spark that compute leaves of queries, asked over Spark Connect: no JVM here."""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import grpc
import pyarrow as pa
from pyspark.errors import PySparkException, PythonException
from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.session import SparkSession

from varve.promql.errors import StorageError
from varve.promql.interrupt import Check
from varve.query import leaf_job
from varve.query.leaf_job import LeafJob, Outcome, outcome_of
from varve.storage.store import Store

_CONNECT_S: Final = 10.0
# What breaks off is asked for again for some seconds.
_RETRIES: Final = 5
_BACKOFF_MS: Final = 1_000
# How soon a query that waits for executors notices that it has to end.
_CHECK_S: Final = 0.1
# Rows that may wait to be taken, of some megabytes each.
_AHEAD: Final = 4
_ROWS_A_TASK: Final = 8_000_000
"""A second or two of a task, and 128 MB of its executor's memory."""

Row = Mapping[str, Any]


class SparkExecutors:
    """Implements query.executors.Executors. Safe to use from any thread.

    A session is opened by the first query that needs one, and anew where it has ended.
    """

    def __init__(
        self, url: str, store: Store, least_rows: int, rows_a_task: int = _ROWS_A_TASK
    ) -> None:
        """url: sc://host:port, as of Spark Connect. store: as executors reach it."""
        self._url = url
        self._session: SparkSession | None = None
        self._lock = threading.Lock()
        self.store = store
        self.least_rows = least_rows
        self.rows_a_task = rows_a_task

    def run(self, job: LeafJob, check: Check) -> Iterator[Outcome]:
        for is_last in (False, True):
            session, is_new = self._opened()
            work, has_given = _Work(session, job), False
            threading.Thread(target=work.run, name="spark", daemon=True).start()
            try:
                for outcome in work.outcomes(check):
                    has_given = True
                    yield outcome
            except _FailedError as err:
                self._forget(session)
                # Spark closes a session that was idle for an hour, and all of them when it ends.
                if is_new or has_given or is_last or isinstance(err.__cause__, PythonException):
                    raise StorageError(f"{_asked(self._url)} has failed: {err}") from err
            else:
                return
            finally:
                work.stop()

    def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.stop()

    def _opened(self) -> tuple[SparkSession, bool]:
        """A session, and whether it was opened just now."""
        with self._lock:
            if self._session is not None:
                return self._session, False
            try:
                self._session = _connected(DefaultChannelBuilder(self._url))
            except (grpc.FutureTimeoutError, *_ERRORS) as err:
                raise StorageError(
                    f"{_asked(self._url)} does not answer, and the query reads over"
                    f" query.spark_rows = {self.least_rows:,}: ask for less, or start it, or"
                    f" empty query.spark_remote ({_line(err)})"
                ) from err
            return self._session, True

    def _forget(self, session: SparkSession) -> None:
        with self._lock:
            if self._session is session:
                self._session = None


def _connected(builder: DefaultChannelBuilder) -> SparkSession:
    """A session. Spark's client would try for minutes to reach who does not answer."""
    with builder.toChannel() as channel:
        grpc.channel_ready_future(channel).result(_CONNECT_S)
    session = SparkSession.builder.channelBuilder(builder).create()
    session.client.set_retry_policies([DefaultPolicy(_RETRIES, max_backoff=_BACKOFF_MS)])
    return session


class _FailedError(Exception):
    """Spark has not done its work."""


_ERRORS: Final = (PySparkException, grpc.RpcError, OSError)


@dataclass
class _Work:
    """A job that a thread waits for, so that the query may end meanwhile."""

    session: SparkSession
    job: LeafJob
    _found: queue.Queue[Row | Exception | None] = field(default_factory=lambda: queue.Queue(_AHEAD))
    _tag: str = field(default_factory=lambda: f"varve-{uuid.uuid4()}")
    _stopped: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """In a thread of its own: tags are those of a thread."""
        job = self.job
        try:
            self.session.addTag(self._tag)
            numbers = self.session.range(0, job.size, 1, job.size)
            frame = numbers.mapInArrow(_runner(job), leaf_job.COLUMNS)
            for row in frame.toLocalIterator():
                if not self._put(row.asDict()):
                    return
            self._put(None)
        except Exception as err:  # noqa: BLE001 - raised where outcomes are waited for
            self._put(err)
        finally:
            self._done.set()

    def outcomes(self, check: Check) -> Iterator[Outcome]:
        while True:
            check()
            try:
                found = self._found.get(timeout=_CHECK_S)
            except queue.Empty:
                continue
            if found is None:
                return
            if isinstance(found, Exception):
                raise _FailedError(_line(found)) from found
            yield outcome_of(found, self.job.leaf.steps)

    def stop(self) -> None:
        """Ends what is still under way."""
        self._stopped.set()
        if not self._done.is_set():
            threading.Thread(target=self._interrupt, name="spark-stop", daemon=True).start()

    def _interrupt(self) -> None:
        try:
            self.session.interruptTag(self._tag)
        except _ERRORS:  # it ends by itself, or with Spark
            return

    def _put(self, found: Row | Exception | None) -> bool:
        """Whether somebody still waits for it."""
        while not self._stopped.is_set():
            try:
                self._found.put(found, timeout=_CHECK_S)
            except queue.Full:
                continue
            return True
        return False


class _Runner(Protocol):
    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]: ...


def _runner(job: LeafJob) -> _Runner:
    """The function for mapInArrow: it takes numbers of tasks and gives their outcomes."""
    run: Callable[[LeafJob, Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]] = leaf_job.run

    def tasks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return run(job, batches)

    return tasks


def _asked(url: str) -> str:
    """The address without what comes behind it, which may be a token."""
    return f"Spark at {url.split(';', maxsplit=1)[0].rstrip('/')}"


def _line(err: BaseException) -> str:
    """The first line of what an error says."""
    return next(iter(str(err).splitlines()), "") or type(err).__name__
