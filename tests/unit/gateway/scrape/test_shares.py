"""Instances that have shares scrape each target once, and move one without an end of its series."""

from __future__ import annotations

import asyncio
from pathlib import Path

from varve.gateway.scrape.config import parse_config
from varve.gateway.scrape.manager import ScrapeManager
from varve.kafka.membership import Share
from varve.model.clock import SystemClock

TARGETS = [f"127.0.0.1:{port}" for port in range(1, 41)]
TEXT = f"""
scrape_configs:
- job_name: many
  scrape_interval: 1h
  static_configs: [{{targets: {TARGETS}}}]
"""


class Instance:
    """A manager that scrapes nothing within the test, and what it would have sent."""

    def __init__(self, share):
        self.share = share
        self.sent = []

        async def deliver(message):
            self.sent.append(message)

        self.manager = ScrapeManager(deliver, SystemClock(), (), "seed", owns=self._owns)

    def _owns(self, number):
        return self.share.has(number)

    async def begin(self):
        await self.manager.apply(parse_config(TEXT, "p", Path()))

    def take(self, *numbers):
        self.share = Share(frozenset(numbers), 4)
        self.manager.share()

    def targets(self):
        return {
            loop.target.labels["instance"] for loop in self.manager.pools["many"].loops.values()
        }


def test_every_target_is_scraped_by_one_instance_and_by_another_when_shares_move():
    async def main():
        one, other = Instance(Share(frozenset({0, 1}), 4)), Instance(Share(frozenset({2, 3}), 4))
        await one.begin()
        await other.begin()
        ones = one.targets()

        assert ones
        assert other.targets() == set(TARGETS) - ones
        one.take(0, 1, 2)
        other.take(3)
        assert ones < one.targets()
        assert other.targets() == set(TARGETS) - one.targets()
        other.take()
        one.take(0, 1, 2, 3)
        assert one.targets() == set(TARGETS)
        assert not other.targets()
        await asyncio.sleep(0)
        assert not one.sent
        assert not other.sent  # no series has ended
        for instance in (one, other):
            await instance.manager.close()

    asyncio.run(main())
