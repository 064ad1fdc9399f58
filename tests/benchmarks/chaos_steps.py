"""What runs share in which a gateway or its Kafka is killed again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.integration.gateway.gateway_process import GatewayProcess
from varve.local.broker import Broker

DEADLINE_S = 300


@contextmanager
def without_kafka(broker: Broker) -> Iterator[None]:
    """Kafka is dead in the context, and starts again behind it."""
    broker.kill()
    yield
    broker.start()


def wait_until(condition: Callable[[], bool], gateway: GatewayProcess) -> None:
    """Fails with the end of the gateway's log if it takes longer than DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, gateway.log[-3_000:]
        time.sleep(0.02)
