"""What several suites share: one real broker for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from varve.model.errors import NeedsOperator
from varve.services.broker import Broker


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running broker without topics: make your own, of your own name. Skips without Java."""
    broker = Broker(tmp_path_factory.mktemp("kafka broker"))
    try:
        broker.start()
    except NeedsOperator as err:
        if "cannot run" in str(err):
            pytest.skip(str(err))
        raise
    yield broker
    broker.stop()
