"""Gateways agree who leads pairs of replicas: claims through a topic that all of them read.

Nothing is opened before the first replica is seen. While Kafka is away, or without the topic, a
gateway decides by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from varve.gateway.leaders import AgreedLeaders, Claim
from varve.gateway.replicas import Replicas
from varve.gateway.topic_producer import TopicProducer
from varve.kafka.connection import connect
from varve.model.errors import TemporaryError, VarveError

_EVERY_S: Final = 1.0
_POLL_MS: Final = 500
_RETRY_S: Final = 10.0
_BACK: Final = 10
"""How many failovers back claims are read from at a start."""

log = logging.getLogger("varve.gateway.leaders")


class LeaderLog:
    """Keeps the leaders of `replicas` as the log says. Runs in one event loop, with a thread that
    reads.
    """

    def __init__(
        self,
        replicas: Replicas,
        producer: TopicProducer,
        options: Mapping[str, Any],
        failover_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        """producer: of the topic. options: of a consumer, bootstrap_servers among them."""
        self._replicas = replicas
        self._producer = producer
        self._options = options
        self._failover_ms = failover_ms
        self._now_ms = now_ms
        self._agreed = AgreedLeaders(failover_ms)
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    async def run(self) -> None:
        """Claims what is due, until cancelled."""
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                now_ms = self._now_ms()
                seen = self._replicas.seen_since(now_ms - round(3_000 * _EVERY_S))
                if not seen:
                    continue
                if self._thread is None:
                    self._thread = threading.Thread(target=self._read, name="leaders", daemon=True)
                    self._thread.start()
                if self._replicas.is_agreed:
                    self._send(self._agreed.due(seen, now_ms))
        finally:
            self._stopping.set()
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._producer.close(1.0)

    def _send(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            value = json.dumps({"cluster": claim.cluster, "replica": claim.replica}).encode()
            self._producer.send(0, claim.cluster.encode(), value, _sent)

    def _read(self) -> None:
        """Reads the log, again after whatever fails."""
        said = ""
        while not self._stopping.is_set():
            try:
                self._producer.connect()
                self._follow()
            except (VarveError, KafkaError, OSError) as err:
                if said != str(err):
                    said = str(err)
                    log.warning("replicas are told apart by this gateway alone: %s", err)
            self._tell(self._disagree)
            self._stopping.wait(_RETRY_S)

    def _follow(self) -> None:
        options = {"enable_auto_commit": False, "auto_offset_reset": "latest"}
        consumer = connect(KafkaConsumer, {**self._options, **options})
        try:
            topic = TopicPartition(self._producer.topic, 0)
            consumer.assign([topic])
            since_ms = int(time.time() * 1000) - _BACK * self._failover_ms
            found = consumer.offsets_for_times({topic: since_ms}).get(topic)
            end = consumer.end_offsets([topic])[topic]
            consumer.seek(topic, end if found is None else found.offset)
            is_whole = False
            while not self._stopping.is_set():
                records = consumer.poll(timeout_ms=_POLL_MS).get(topic, ())
                claims = [claim for r in records if (claim := _claim(r.value, r.timestamp))]
                if claims:
                    self._tell(self._apply, claims)
                if not is_whole and consumer.position(topic) >= end:
                    is_whole = True
                    self._tell(self._agree)
                if not self._producer.is_connected:
                    raise TemporaryError("the connection to Kafka is gone")
        finally:
            consumer.close()

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        """Has the event loop call a function, unless it is over."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _apply(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            changed = self._agreed.apply(claim)
            if changed and self._replicas.is_agreed:
                self._replicas.lead(claim.cluster, claim.replica)

    def _agree(self) -> None:
        self._replicas.is_agreed = True
        for claim in self._agreed.claims():
            self._replicas.lead(claim.cluster, claim.replica)

    def _disagree(self) -> None:
        self._replicas.is_agreed = False


def _claim(value: bytes | None, at_ms: int) -> Claim | None:
    """The claim of a message; None for one that is none."""
    try:
        said = json.loads(value or b"")
        return Claim(str(said["cluster"]), str(said["replica"]), at_ms)
    except (ValueError, KeyError, TypeError):
        return None


def _sent(error: BaseException | None) -> None:
    if error is not None:
        log.debug("a claim was not sent, and is sent again: %s", error)
