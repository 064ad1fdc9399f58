"""Ingest and rollups while the wall clock of their machine steps.

The broker and this process keep the true time: they are other machines.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.rollup.deployment import Deployment
from tests.stepped_clock import CAN_BUILD, SteppedClock
from varve.client.messages import Sample
from varve.model.clock import MAX_STEP_MS, SystemClock
from varve.model.identity import define
from varve.model.window import MINUTE_MS, floor_to
from varve.storage.table import Table

pytestmark = [pytest.mark.spark, pytest.mark.kafka, pytest.mark.slow]

SERIES = define("m", {"lane": "1"}, metric_type="gauge")
YEAR_S = 365 * 86_400


class Stepped(Deployment):
    """A deployment whose process, JVM included, reads a wall clock of its own."""

    def __init__(self, broker: str, home: Path) -> None:
        super().__init__(broker, home, deadline_s=100)
        self.clock = SteppedClock(home)
        self._environment |= self.clock.environment
        self.sent = 0

    def goes_on(self) -> None:
        """Awaits that a sample of now is stored, and that the minute it is in closes."""
        now_ms = SystemClock().now_ms()
        self.send([Sample(SERIES, now_ms, 1.0)])
        self.sent += 1
        self.await_(lambda: sum(batch["stored"] for batch in self.batches()) == self.sent)
        self.await_(lambda: self.frontier_ms() > floor_to(now_ms, MINUTE_MS))
        assert self.furthest_ms() <= SystemClock().now_ms() + MAX_STEP_MS

    def frontier_ms(self) -> int:
        return self.states()[0].frontier_ms or 0

    def furthest_ms(self) -> int:
        """The latest time that a position of the deployment claims."""
        stored = Table(self.store, "samples").positions()
        complete = [at for name, at in stored.items() if name.startswith("complete:")]
        return max(*complete, *(state.frontier_ms or 0 for state in self.states()))


@pytest.fixture
def deployment(kafka_broker, tmp_path):
    if not CAN_BUILD:
        pytest.skip("no C compiler on PATH")
    home = tmp_path / "home"  # the loader takes a space for the end of a path
    home.mkdir()
    running = Stepped(kafka_broker.bootstrap_servers, home)
    yield running
    running.close()


def test_ingest_and_rollups_go_on_in_true_time_whatever_the_clock_does(deployment):
    deployment.start()
    deployment.goes_on()

    for seconds in (-3_600, YEAR_S, 0):
        deployment.clock.step(seconds)
        deployment.goes_on()

    now_ms = SystemClock().now_ms()
    deployment.await_(lambda: deployment.complete(now_ms - 2 * MINUTE_MS))
    assert deployment.verify(now_ms).differences == []
    assert not deployment.rows("quarantine")
    log = deployment.log.read_text()
    assert "clock was stepped by -36" in log
    assert "clock was stepped by +315" in log
    assert "believed again" in log
