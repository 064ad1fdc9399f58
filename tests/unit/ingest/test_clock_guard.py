"""Which times completeness is claimed for, by a machine whose clock is wrong."""

from __future__ import annotations

import logging

import pytest

from varve.ingest import clock_guard
from varve.ingest.clock_guard import LEAST_WAIT_MS, ClockGuard
from varve.ingest.message_pace import WINDOW_MS, MessagePace, Pace
from varve.model.clock import ManualClock, SteadyClock

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
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

    def guard(self, brokers="192.0.2.1:9092", complete_ms=START_MS, **options):
        self.clock = SteadyClock(
            self.wall, monotonic_ms=self.boot.now_ms, synchronised_ms=lambda: None
        )
        return ClockGuard("bulk", self.clock, brokers, complete_ms, self.newest_ms, **options)

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


@pytest.mark.parametrize("brokers", ["192.0.2.1:9092", "localhost:9092"])
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
    [(None, 0), (None, None), (START_MS - DAY_MS, 0), (START_MS - YEAR_MS, None)],
)
def test_a_first_start_a_restart_and_a_kafka_that_tells_nothing_are_not_held_up(
    site, complete_ms, newest_ms
):
    site.newest_ms = newest_ms
    guard = site.guard(complete_ms=complete_ms)

    assert guard.look(site) == START_MS
    assert site.asked == 0


def believed_after(site, guard, *, until_ms=2 * DAY_MS, meanwhile=lambda passed_ms: None):
    """How long the clock was held up, looked at every 30 s; None if it still is at the end.
    meanwhile: what else happens.
    """
    for passed_ms in range(0, until_ms, 30_000):
        meanwhile(passed_ms)
        if guard.look(site) is not None:
            return passed_ms
        site.advance(30_000)
    return None


LOCAL = "localhost:9092"


@pytest.mark.parametrize(
    ("off_ms", "held_ms"),
    [
        (DAY_MS, 0),
        (2 * DAY_MS, LEAST_WAIT_MS),
        (7 * DAY_MS, LEAST_WAIT_MS),
        (100 * DAY_MS, 100 * 60_000),
    ],
)
def test_a_machine_that_was_off_starts_by_itself(site, off_ms, held_ms, caplog):
    """All on one machine, without a time server; its own collector goes on as soon as it can."""
    for clock in (site.true, site.wall):
        clock.advance(off_ms)
    guard = site.guard(LOCAL)

    def collect(_):
        site.newest_ms = site.wall.at_ms

    held = believed_after(site, guard, meanwhile=collect)

    assert held_ms <= held <= held_ms + 60_000
    assert guard.look(site) == site.true.at_ms
    if held_ms:
        assert f"nothing has spoken against it for {held_ms / 1000:.0f} s" in caplog.text
        assert "believed again" in caplog.text


@pytest.mark.parametrize("brokers", ["192.0.2.1:9092", LOCAL])
@pytest.mark.parametrize("per_second_ms", [0, 100, 20_000])
def test_a_backfill_of_old_messages_does_not_hold_up_a_clock_that_is_right(
    site, brokers, per_second_ms
):
    site.broker_tells = False
    site.newest_ms = START_MS - 20 * DAY_MS
    guard = site.guard(brokers, complete_ms=None)

    def backfill(passed_ms):
        site.newest_ms = START_MS - 20 * DAY_MS + passed_ms * per_second_ms // 1_000

    assert LEAST_WAIT_MS <= believed_after(site, guard, meanwhile=backfill) <= 21 * 60_000


@pytest.mark.parametrize("brokers", ["192.0.2.1:9092", LOCAL])
@pytest.mark.parametrize("every_s", [30, 120])
def test_a_clock_a_year_ahead_is_never_believed_while_producers_contradict_it(
    site, caplog, brokers, every_s
):
    site.broker_tells = False
    site.wall.advance(YEAR_MS)
    guard = site.guard(brokers, complete_ms=START_MS - 7 * DAY_MS)
    site.newest_ms = START_MS - 7 * DAY_MS

    def produce(passed_ms):
        # They come back after an hour, a week after the last one.
        if passed_ms > HOUR_MS and passed_ms % (every_s * 1_000) == 0:
            site.newest_ms = site.true.at_ms

    assert believed_after(site, guard, meanwhile=produce) is None
    assert "producers are at work whose clocks are 31536" in caplog.text
    # Corrected by hand, it is right at once where messages confirm it.
    site.wall.advance(-YEAR_MS)
    held = believed_after(site, guard, meanwhile=produce)
    assert held == 0 if brokers != LOCAL else held <= LEAST_WAIT_MS + 60_000
    assert guard.look(site) == site.true.at_ms


def test_a_clock_a_year_ahead_without_any_witness_leaves_hours_to_answer_the_alarm(site):
    site.wall.advance(YEAR_MS)
    guard = site.guard(LOCAL)

    assert 6 * HOUR_MS < believed_after(site, guard) < 7 * HOUR_MS


def test_a_wrong_clock_of_a_machine_that_was_off_is_corrected_by_hand(site):
    site.true.advance(7 * DAY_MS)
    site.wall.advance(YEAR_MS)
    guard = site.guard(LOCAL)
    site.newest_ms = START_MS

    def correct(passed_ms):
        if passed_ms == HOUR_MS:
            site.wall.at_ms = site.true.at_ms

    held = believed_after(site, guard, meanwhile=correct)

    assert HOUR_MS + LEAST_WAIT_MS <= held <= HOUR_MS + LEAST_WAIT_MS + 60_000
    assert guard.look(site) == site.true.at_ms


@pytest.mark.parametrize("is_right", [False, True])
def test_a_time_server_confirms_at_once_and_corrects_a_wrong_clock(site, monkeypatch, is_right):
    site.true.advance(7 * DAY_MS)
    site.wall.at_ms = site.true.at_ms + (0 if is_right else YEAR_MS)
    guard = site.guard(LOCAL)

    def synchronise(passed_ms):
        if passed_ms == 60_000:
            site.wall.at_ms = site.true.at_ms
            monkeypatch.setattr(clock_guard, "synchronised_ms", site.true.now_ms)

    assert believed_after(site, guard, meanwhile=synchronise) == 60_000
    assert guard.look(site) == site.true.at_ms


def test_a_mirror_that_always_lags_is_told_by_a_setting(site):
    site.broker_tells = False
    site.newest_ms = START_MS - 3 * DAY_MS
    assert site.guard(complete_ms=None).is_unconfirmed
    assert not site.guard(complete_ms=None, max_gap_ms=4 * DAY_MS).is_unconfirmed


def test_a_broker_under_this_machines_own_name_has_the_clock_in_doubt(site):
    site.wall.advance(YEAR_MS)
    guard = site.guard("127.1.2.3:9092")
    site.newest_ms = site.wall.at_ms

    assert guard.look(site) is None


@pytest.mark.parametrize(
    ("steps", "settled"),
    [
        ([], True),
        ([WINDOW_MS], False),
        ([0, 10 * WINDOW_MS], False),
        ([10 * WINDOW_MS] * 2, True),
        ([WINDOW_MS, 0], True),
        ([10 * WINDOW_MS, WINDOW_MS], False),
        ([-WINDOW_MS], True),
    ],
)
def test_producers_at_work_are_told_from_a_backfill(steps, settled):
    newest_ms, pace = 1_000, MessagePace(0, 1_000)
    for number, moved_ms in enumerate(steps, 1):
        assert pace.observe(number * WINDOW_MS - 1, newest_ms + moved_ms) is None
        newest_ms += moved_ms
        told = pace.observe(number * WINDOW_MS, newest_ms)
        assert (told is Pace.CLOCK) == (moved_ms == WINDOW_MS)

    assert pace.is_settled == settled


def test_completeness_stored_ahead_is_told_at_the_start(site, caplog):
    with caplog.at_level(logging.ERROR):
        site.guard(complete_ms=START_MS + YEAR_MS)

    assert "varve reset positions" in caplog.text
