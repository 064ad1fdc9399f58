"""Sends messages to a gateway by HTTP, one after the other, each until it is acknowledged."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import httpx

from varve.client.deliveries import Deliveries
from varve.client.http_access import Login, http_client, retry_after_s
from varve.client.messages import Encoder, Message
from varve.model.errors import NeedsOperator, TemporaryError

_PATH = "/api/v1/push"
_HEADERS = {"content-type": "application/json", "content-encoding": "gzip"}
_REQUEST_S = 30.0
# Pauses between two tries begin so long, and each is twice as long as the one before, give or take
# a fifth, as with Kafka.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
# How long a request that is under way is waited for when there is to be no other.
_ENDING_S = 1.0
_AGAIN_LATER = (408, 429)
_WHO_ARE_YOU = (401, 403)


class _Waiting(NamedTuple):
    message: Message
    encoder: Encoder
    deadline: float
    """By the monotonic clock, s."""


class GatewaySender(Deliveries):
    """Sends messages in JSON. What a gateway refuses in part counts as lost."""

    partitions = 1

    def __init__(
        self,
        url: str,
        login: Login,
        *,
        buffer_bytes: int,
        delivery_s: float,
        connect_s: float,
    ) -> None:
        """Blocks until the gateway takes requests; raises as Producer says."""
        super().__init__(buffer_bytes)
        self._url = url.rstrip("/") + _PATH
        self._delivery_s = delivery_s
        self._client = http_client(login, _REQUEST_S)
        self._due: deque[_Waiting] = deque()
        self._ends = threading.Event()
        self._wait_for_gateway(connect_s)
        self._worker = threading.Thread(target=self._work, name="varve-gateway", daemon=True)
        self._worker.start()

    def _hand_on(self, message: Message, encoder: Encoder) -> bool:
        with self._changed:
            self._due.append(_Waiting(message, encoder, time.monotonic() + self._delivery_s))
            self._changed.notify_all()
        return True

    def _disconnect(self) -> None:
        with self._changed:
            self._ends.set()
            self._changed.notify_all()
        self._worker.join(_ENDING_S)
        if not self._worker.is_alive():  # else its connection ends with the process
            self._client.close()

    def _wait_for_gateway(self, connect_s: float) -> None:
        """Sends no samples until that is taken."""
        deadline = time.monotonic() + connect_s
        for own_s in _pauses():
            status, why, after_s = self._post(gzip.compress(b"[]", mtime=0))
            if status in _WHO_ARE_YOU:
                self._client.close()
                raise NeedsOperator(f"the gateway does not let this sender in: {why}")
            if status < 300:
                return
            if not _is_temporary(status):
                self._client.close()
                raise NeedsOperator(f"there is no gateway of Varve: {why}")
            pause_s = max(own_s, after_s)
            if time.monotonic() + pause_s > deadline:
                self._client.close()
                raise TemporaryError(f"the gateway takes nothing: {why}")
            time.sleep(pause_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._ends.is_set())
                if self._ends.is_set():
                    return
                waiting = self._due.popleft()
            self._deliver(waiting)

    def _deliver(self, waiting: _Waiting) -> None:
        """Sends a message until it is acknowledged, refused, too old, or all ends."""
        message, encoder, deadline = waiting
        body = gzip.compress(message.value, 1, mtime=0)
        for own_s in _pauses():
            status, why, after_s = self._post(body)
            if status < 300:
                self._settle(message, encoder, "")
                return
            pause_s = max(own_s, after_s)
            if not _is_temporary(status) or time.monotonic() + pause_s > deadline:
                self._settle(message, encoder, why)
                return
            if self._ends.wait(pause_s):
                return

    def _post(self, body: bytes) -> tuple[int, str, float]:
        """The status of the answer, what it says, and after how many seconds to come again; 503
        where there is none.
        """
        try:
            answer = self._client.post(self._url, content=body, headers=_HEADERS)
        except httpx.HTTPError as err:
            return 503, f"{self._url}: {type(err).__name__}: {err}", 0.0
        text = f"{self._url} answers {answer.status_code}: {answer.text.strip()[:300]}"
        return answer.status_code, text, retry_after_s(answer)


def _is_temporary(status: int) -> bool:
    return status >= 500 or status in _AGAIN_LATER


def _pauses() -> Iterator[float]:
    """Seconds before each further try."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
