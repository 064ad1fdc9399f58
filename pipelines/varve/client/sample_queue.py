"""The samples that a producer has recorded and not sent yet, and their way into messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence

from varve.client.deliveries import Deliveries, deadline_after
from varve.client.messages import MESSAGE_SAMPLES, Encoder, Sample


class SampleQueue:
    """Gathers samples and hands them to the sender as messages. May be shared by threads.

    Every sample that is added is counted as accepted by the sender; then it is sent, or dropped and
    counted as lost. Samples of a series keep the order in which they were added.
    """

    def __init__(self, sender: Deliveries, encoder: Encoder, block_s: float) -> None:
        """block_s: seconds that sending waits for room in the sender's buffer; may be infinite."""
        self.lock = threading.Condition()
        """Held while samples are added; notified when the queue is empty no more. The producer
        holds it as well while it reads and changes what the samples are made of."""
        self._sender = sender
        self._encoder = encoder
        self._block_s = block_s
        self._samples: list[Sample] = []
        # Held while samples become messages, so that those of a series keep their order.
        self._encoding = threading.Lock()

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, samples: Iterable[Sample]) -> None:
        """Adds samples. The caller holds the lock."""
        before = len(self._samples)
        self._samples += samples
        self._sender.take(len(self._samples) - before)
        if not before:
            self.lock.notify_all()

    def send_if_full(self) -> None:
        """Sends what is queued if it fills a message for each partition. So whoever records pays
        for sending, and recording is no faster than sending in the long run.
        """
        if len(self._samples) >= MESSAGE_SAMPLES * self._sender.partitions:
            self.send()

    def send(self) -> None:
        """Sends what is queued; waits up to block_s for room."""
        with self._encoding:
            self._drain(self._block_s)

    def send_behind(self, samples: Sequence[Sample], wait_s: float | None) -> int:
        """Sends samples, after what is queued; returns how many found no room, which are lost.

        wait_s: seconds to wait for room, block_s if None.
        """
        self._sender.take(len(samples))
        with self._encoding:
            self._drain(self._block_s)
            return self._encode(samples, self._block_s if wait_s is None else wait_s)

    def flush(self, deadline: float) -> bool:
        """Sends what is queued, and waits for room until `deadline` (monotonic, s; may be
        infinite). False if another thread has been sending until then.
        """
        left = max(0.0, deadline - time.monotonic())
        if not self._encoding.acquire(timeout=min(left, threading.TIMEOUT_MAX)):
            return False
        try:
            self._drain(max(0.0, deadline - time.monotonic()))
        finally:
            self._encoding.release()
        return True

    def _drain(self, wait_s: float) -> None:
        """Sends what is queued. The caller holds _encoding."""
        with self.lock:
            samples, self._samples = self._samples, []
        self._encode(samples, wait_s)

    def _encode(self, samples: Sequence[Sample], wait_s: float) -> int:
        """Sends accepted samples; returns how many found no room. The caller holds _encoding."""
        deadline = deadline_after(wait_s)
        done = refused = 0
        try:
            for message in self._encoder.messages(samples):
                done += message.samples
                if not self._sender.send(message, self._encoder, deadline):
                    refused += message.samples
        except BaseException as err:
            self._sender.drop(len(samples) - done, f"{type(err).__name__}: {err}")
            raise
        return refused
