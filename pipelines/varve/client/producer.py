"""The producer for applications: it records metrics by name and sends them in batches."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from varve.client.deliveries import Counts, deadline_after
from varve.client.destination import connected, encoder_of, is_gateway
from varve.client.http_access import Login
from varve.client.instruments import (
    BUCKETS,
    NEWEST_MS,
    OLDEST_MS,
    QUANTILES,
    Counter,
    Gauge,
    Histogram,
    Instrument,
    Instruments,
    Summary,
    buckets,
    finite,
    number,
    quantiles,
    timestamp,
)
from varve.client.messages import Sample
from varve.client.sample_queue import SampleQueue
from varve.model.clock import Clock, SystemClock
from varve.model.errors import BadRequest

Tags = Mapping[str, str] | None

_CLOSED = "the producer is closed: make another one"


class Producer:
    """Sends the metrics of an application. May be shared by threads; not by a fork of the process,
    where every method raises BadRequest: make a producer in each process, after the fork.

    A gauge is sent whenever it is set. Counters, histograms and summaries are kept here and sent
    every report_s seconds, as is the last value of a gauge that was not set meanwhile. With ts_ms
    the caller keeps time: the sample is sent at once, stamped so, and not repeated.

    Bad names, labels and values raise BadRequest before anything of the call is recorded. What
    Kafka does not take is counted in `counts`, never raised by the methods that record.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str = "raw-metrics",
        *,
        tags: Tags = None,
        format: Literal["json", "arrow"] = "json",  # noqa: A002  # what everybody calls it
        definitions_topic: str = "",
        options: Mapping[str, str] | None = None,
        client_id: str = "varve-client",
        linger_ms: int = 100,
        report_s: float = 10.0,
        block_s: float = 0.0,
        buffer_bytes: int = 32 * 2**20,
        delivery_s: float = 600.0,
        connect_s: float = 30.0,
        stale_markers: bool = True,
        token: str = "",
        user: tuple[str, str] | None = None,
        verify: bool | str = True,
        clock: Clock | None = None,
    ) -> None:
        """Blocks until the topic is known, trying for connect_s seconds.

        bootstrap_servers: Kafka's, or the URL of a gateway (https://...), which takes JSON; topic,
        options and client_id are Kafka's alone. tags: of every metric recorded here. format: of the
        messages. definitions_topic: where definitions of series go with format arrow; empty: behind
        the samples. options: by Kafka's own names (security.protocol, ...). linger_ms: milliseconds
        a sample waits for others to share its message. block_s: seconds a call waits for room once
        buffer_bytes wait to be taken; 0: its samples are lost and counted; math.inf: until there is
        room. delivery_s: seconds a message is tried; then it is lost. stale_markers: whether
        `close` ends the series recorded here. token, or user with a password: who sends, for a
        gateway. verify: False, or a file of certificates, for one whose certificate the machine
        does not know.

        Raises TemporaryError if nobody answers or the topic is not there, NeedsOperator for a
        refused login, an untrusted certificate, or an option unknown here.
        """
        if format not in ("json", "arrow"):
            raise BadRequest(f"the format of messages is json or arrow, not {format!r}")
        if is_gateway(bootstrap_servers) and format != "json":
            raise BadRequest("a gateway takes JSON: leave format as it is")
        self._instruments = Instruments(tags)
        self._clock = clock or SystemClock()
        self._linger_s, self._report_s = linger_ms / 1000, report_s
        self._stale_markers = stale_markers
        self._pid = os.getpid()
        self._stopping = False
        self._failure: BaseException | None = None
        self._sender = connected(
            bootstrap_servers,
            topic,
            definitions_topic if format == "arrow" else "",
            login=Login(token, user, verify),
            options=options or {},
            client_id=client_id,
            buffer_bytes=buffer_bytes,
            delivery_s=delivery_s,
            connect_s=connect_s,
        )
        encoder = encoder_of(format, self._sender.partitions, apart=bool(definitions_topic))
        self._queue = SampleQueue(self._sender, encoder, block_s)
        # Instruments are read and changed, and their samples queued, under this lock.
        self._lock = self._queue.lock
        self._worker = threading.Thread(target=self._work, name="varve-producer", daemon=True)
        self._worker.start()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Recording

    def gauge(
        self,
        name: str,
        value: float,
        tags: Tags = None,
        ts_ms: int | None = None,
        *,
        unit: str = "",
        help_text: str = "",
    ) -> None:
        """Sets a value that goes up and down, and sends it. Of several in one millisecond the
        greatest is stored.
        """
        value = number(name, value)
        at_ms = self._moment(name, ts_ms)
        with self._lock:
            gauge, _ = self._instruments.find(Gauge, name, tags, (), unit, help_text)
            gauge.value = value
            gauge.fresh = True
            gauge.own_time = ts_ms is not None
            self._queue.add(gauge.read(at_ms))
        self._queue.send_if_full()

    def counter(
        self,
        name: str,
        increment: float = 1.0,
        tags: Tags = None,
        ts_ms: int | None = None,
        *,
        unit: str = "",
        help_text: str = "",
    ) -> None:
        """Adds to a total kept here, which starts at 0 and never falls; the total is sent.

        The 0 is sent too, so that a rate sees the first increment.
        """
        increment = finite(name, increment)
        if increment < 0:
            raise BadRequest(f"{name}: a counter does not fall; {increment:g} is for a gauge")
        at_ms = self._moment(name, ts_ms)
        with self._lock:
            counter, new = self._instruments.find(Counter, name, tags, (), unit, help_text)
            self._before_first(counter, at_ms, new=new, own_time=ts_ms is not None)
            counter.total += increment
            self._send_if_timed(counter, at_ms)
        self._queue.send_if_full()

    def counter_total(
        self,
        name: str,
        total: float,
        tags: Tags = None,
        ts_ms: int | None = None,
        *,
        unit: str = "",
        help_text: str = "",
    ) -> None:
        """Sets the total of a counter that is kept elsewhere. A lower one than before is a reset,
        as it is after a restart of what it counts.
        """
        total = finite(name, total)
        if total < 0:
            raise BadRequest(f"{name}: a counter's total is never below 0, not {total:g}")
        at_ms = self._moment(name, ts_ms)
        with self._lock:
            counter, _ = self._instruments.find(Counter, name, tags, (), unit, help_text)
            counter.own_time = ts_ms is not None
            counter.total = total
            self._send_if_timed(counter, at_ms)
        self._queue.send_if_full()

    def histogram(
        self,
        name: str,
        value: float,
        tags: Tags = None,
        ts_ms: int | None = None,
        *,
        buckets: Sequence[float] = BUCKETS,
        unit: str = "",
        help_text: str = "",
    ) -> None:
        """Observes a value: the series NAME_bucket (one for each upper bound, label le), NAME_sum
        and NAME_count. buckets: upper bounds, inclusive; +Inf is always one more.
        """
        value = finite(name, value)
        bounds = BUCKETS if buckets is BUCKETS else _buckets(name, buckets)
        at_ms = self._moment(name, ts_ms)
        with self._lock:
            histogram, new = self._instruments.find(Histogram, name, tags, bounds, unit, help_text)
            self._before_first(histogram, at_ms, new=new, own_time=ts_ms is not None)
            histogram.observe(value)
            self._send_if_timed(histogram, at_ms)
        self._queue.send_if_full()

    def summary(
        self,
        name: str,
        value: float,
        tags: Tags = None,
        ts_ms: int | None = None,
        *,
        quantiles: Sequence[float] = QUANTILES,
        unit: str = "",
        help_text: str = "",
    ) -> None:
        """Observes a value: the series NAME (one for each quantile, label quantile), NAME_sum and
        NAME_count. Quantiles are of the last 8 to 10 minutes, within 1.083 %, NaN when nothing was
        observed. They cannot be combined across producers; those of a histogram can.
        """
        value = finite(name, value)
        wanted = QUANTILES if quantiles is QUANTILES else _quantiles(name, quantiles)
        at_ms = self._moment(name, ts_ms)
        with self._lock:
            summary, _ = self._instruments.find(Summary, name, tags, wanted, unit, help_text)
            summary.own_time = ts_ms is not None
            summary.observe(value, at_ms)
            self._send_if_timed(summary, at_ms)
        self._queue.send_if_full()

    def end(self, name: str, tags: Tags = None) -> None:
        """Ends a metric recorded here: its last state and stale markers are sent, and it is
        forgotten. Does nothing if there is none.
        """
        self._require_usable()
        with self._lock:
            instrument = self._instruments.remove(name, tags)
            if instrument is not None:
                now_ms = self._clock.now_ms()
                if not instrument.own_time:
                    self._queue.add(instrument.read(now_ms))
                self._queue.add(instrument.end(now_ms))

    def put(self, samples: Iterable[Sample], *, wait_s: float | None = None) -> int:
        """Takes samples for sending as they are and returns how many it could not take, which are
        lost. The producer neither repeats nor ends their series.

        Does not block, unless the buffer is full: then up to wait_s seconds for room (block_s by
        default). Raises BadRequest, having taken none, for a timestamp that is not in ms.
        """
        self._require_usable()
        taken = list(samples)
        for series, ts_ms, _ in taken:
            if not OLDEST_MS <= ts_ms < NEWEST_MS:
                timestamp(series.metric, ts_ms)
        return self._queue.send_behind(taken, wait_s)

    # Sending

    def report(self) -> None:
        """Records the state of everything kept here as of now, without waiting for report_s."""
        self._require_usable()
        with self._lock:
            self._report()
        self._queue.send_if_full()

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Sends everything recorded so far, a report included, and blocks until the brokers have
        acknowledged it; False if some of it still waits after timeout_s.
        """
        self._require_usable()
        with self._lock:
            self._report()
        deadline = deadline_after(timeout_s)
        return self._queue.flush(deadline) and self._sender.flush(
            max(0.0, deadline - time.monotonic())
        )

    def close(self, timeout_s: float = 10.0) -> Counts:
        """Sends a last report, stale markers and what waits, for up to timeout_s; what is left then
        is lost, and counted. A second time it only returns the counts.
        """
        if os.getpid() != self._pid:
            return self._sender.counts()
        with self._lock:
            if self._stopping:
                return self._sender.counts()
            self._report()
            if self._stale_markers:
                now_ms = self._clock.now_ms()
                for instrument in self._instruments:
                    self._queue.add(instrument.end(now_ms))
            self._stopping = True
            self._lock.notify_all()
        atexit.unregister(self.close)
        deadline = deadline_after(timeout_s)
        self._worker.join(min(timeout_s, threading.TIMEOUT_MAX))
        self._queue.flush(deadline)
        self._sender.close(max(0.0, deadline - time.monotonic()))
        return self._sender.counts()

    def counts(self) -> Counts:
        """Counts of all samples so far, which include those not sent yet."""
        return self._sender.counts()

    def _moment(self, name: str, ts_ms: int | None) -> int:
        self._require_usable()
        return self._clock.now_ms() if ts_ms is None else timestamp(name, ts_ms)

    def _require_usable(self) -> None:
        if self._stopping:
            raise BadRequest(_CLOSED)
        if os.getpid() != self._pid:
            raise BadRequest(
                f"this producer belongs to process {self._pid}, of which this one is a fork:"
                " make a producer here"
            )
        if self._failure is not None:
            raise self._failure

    def _before_first(
        self, instrument: Instrument, at_ms: int, *, new: bool, own_time: bool
    ) -> None:
        """Sends the zero totals of a new instrument, before its first observation."""
        instrument.own_time = own_time
        if new and not own_time:
            self._queue.add(instrument.read(at_ms))

    def _send_if_timed(self, instrument: Instrument, at_ms: int) -> None:
        """Sends the state after an observation with a timestamp of the caller's, which no report
        would send.
        """
        if instrument.own_time:
            self._queue.add(instrument.read(at_ms))

    def _report(self) -> None:
        """Queues the state of all instruments. The caller holds the lock."""
        now_ms = self._clock.now_ms()
        for instrument in self._instruments:
            if instrument.own_time:
                continue
            if isinstance(instrument, Gauge) and instrument.fresh:
                instrument.fresh = False
                continue
            self._queue.add(instrument.read(now_ms))

    def _work(self) -> None:
        """The worker thread: sends what has lingered, and reports every report_s seconds."""
        report_at = time.monotonic() + self._report_s
        try:
            while True:
                with self._lock:
                    left = max(0.0, report_at - time.monotonic())
                    self._lock.wait_for(
                        lambda: self._stopping or len(self._queue) > 0,
                        min(left, threading.TIMEOUT_MAX),
                    )
                    if time.monotonic() >= report_at:
                        self._report()
                        report_at = time.monotonic() + self._report_s
                    self._lock.wait_for(lambda: self._stopping, self._linger_s)
                    if self._stopping:
                        return
                self._queue.send()
        except BaseException as err:
            self._failure = err
            raise


# Arguments of the same names hide these functions.
_buckets, _quantiles = buckets, quantiles
