"""Which times completeness is claimed for, by a machine whose clock is wrong."""

from __future__ import annotations

import logging

import pytest

from varve.ingest import clock_guard
from varve.ingest.clock_guard import MAX_GAP_MS, ClockGuard
from varve.model.clock import ManualClock, SteadyClock

DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
START_MS = 1_800_000_000_000


class Site:
    """A machine, and a Kafka whose messages and brokers have clocks of their own."""

    def __init__(self):
        self.true, self.wall, self.boot = (
            ManualClock(START_MS),
            ManualClock(START_MS),
            ManualClock(),
        )
        self.newest_ms = START_MS
        self.broker_tells = True
        self.asked = 0

    def guard(self, brokers="kafka.example:9092", complete_ms=START_MS):
        self.clock = SteadyClock(
            self.wall, monotonic_ms=self.boot.now_ms, synchronised_ms=lambda: None
        )
        return ClockGuard("bulk", self.clock, brokers, complete_ms, self.newest_ms)

    def advance(self, ms):
        for clock in (self.true, self.wall, self.boot):
            clock.advance(ms)

    def partitions(self):
        return []

    def newest_timestamp_ms(self, _partitions):
        self.asked += 1
        return self.newest_ms

    def broker_time_ms(self):
        self.asked += 1
        return self.true.at_ms if self.broker_tells else None


@pytest.fixture(autouse=True)
def no_time_server(monkeypatch):
    monkeypatch.setattr(clock_guard, "synchronised_ms", lambda: None)


@pytest.fixture
def site():
    return Site()


def test_one_look_with_the_clock_a_year_ahead_claims_no_more_than_the_truth(site, caplog):
    guard = site.guard()
    site.advance(2_000)
    site.wall.advance(YEAR_MS)

    with caplog.at_level(logging.WARNING):
        claimed = guard.look(site)

    assert claimed == site.true.at_ms
    assert guard.error_ms() == YEAR_MS
    assert "stepped by +31536000 s" in caplog.text
    assert guard.look(site) == claimed
    assert caplog.text.count("stepped") == 1
    site.wall.advance(-2 * YEAR_MS)
    with caplog.at_level(logging.WARNING):
        assert guard.look(site) == claimed
    assert "stepped by -31536000 s" in caplog.text
    site.wall.advance(YEAR_MS)
    assert guard.look(site) == site.true.at_ms
    assert guard.error_ms() == 0
    assert "believed again" in caplog.text


@pytest.mark.parametrize("brokers", ["kafka.example:9092", "localhost:9092"])
def test_a_machine_that_was_suspended_is_believed_if_a_broker_elsewhere_says_the_same(
    site, brokers
):
    guard = site.guard(brokers)
    site.true.advance(YEAR_MS)
    site.wall.at_ms = site.true.at_ms

    claimed = guard.look(site)

    # A broker on this machine has this machine's clock.
    believed = brokers != "localhost:9092"
    assert claimed == (site.true.at_ms if believed else site.true.at_ms - YEAR_MS)
    assert (guard.error_ms() == 0) == believed


def test_a_start_a_year_ahead_of_everything_claims_nothing_until_a_message_confirms(site, caplog):
    site.broker_tells = False
    site.wall.advance(YEAR_MS)
    guard = site.guard()

    with caplog.at_level(logging.WARNING):
        assert guard.look(site) is None
    assert guard.is_unconfirmed
    assert guard.error_ms() == YEAR_MS
    assert "ahead of all that is stored and sent" in caplog.text

    site.advance(10_000)
    site.newest_ms = site.true.at_ms  # producers say that it is wrong
    assert guard.look(site) is None
    site.newest_ms = site.wall.at_ms  # nobody produced for a year, and now somebody does
    assert guard.look(site) == site.wall.at_ms
    assert guard.error_ms() == 0


def test_a_start_with_a_wrong_clock_heals_with_the_clock(site):
    site.broker_tells = False
    site.wall.advance(YEAR_MS)
    guard = site.guard()
    assert guard.look(site) is None

    site.advance(3_600_000)
    site.wall.advance(-YEAR_MS)

    assert guard.look(site) == site.true.at_ms
    assert guard.error_ms() == 0


@pytest.mark.parametrize(
    ("complete_ms", "newest_ms"),
    [(None, 0), (None, None), (START_MS - MAX_GAP_MS, 0), (START_MS - YEAR_MS, None)],
)
def test_a_first_start_a_restart_and_a_kafka_that_tells_nothing_are_not_held_up(
    site, complete_ms, newest_ms
):
    site.newest_ms = newest_ms
    guard = site.guard(complete_ms=complete_ms)

    assert guard.look(site) == START_MS
    assert site.asked == 0


def test_completeness_stored_ahead_is_told_at_the_start(site, caplog):
    with caplog.at_level(logging.ERROR):
        site.guard(complete_ms=START_MS + YEAR_MS)

    assert "varve reset positions" in caplog.text
