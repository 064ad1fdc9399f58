"""What deviations amount to, however they come; what a repair makes of it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.anomaly.episodes import (
    CLOSE,
    OPEN,
    RESTATE,
    UPDATE,
    WITHDRAW,
    Deviation,
    Track,
    fold,
    grouped,
    restated,
)
from varve.anomaly.rules import Rule

MINUTE = 60_000
RULE = Rule()
SERIES = 7


def far(minute, score=4.0, *, beyond=0.0, interval=1):
    return Deviation(
        minute * MINUTE, 10.0 + score, 10.0, score, 0, beyond, interval_ms=interval * MINUTE
    )


def events_of(*deviations, until=1_000, rule=RULE):
    return Track(SERIES).advance(deviations, until * MINUTE, rule)


def told(events):
    return [(event.event, event.decided_at // MINUTE) for event in events]


minutes = st.dictionaries(
    st.integers(1, 120),
    st.one_of(st.floats(3.1, 20), st.floats(-20, -3.1)),
    max_size=60,
)


@given(minutes, st.lists(st.integers(1, 130), max_size=10), st.sampled_from([1, 4, 7]))
def test_one_by_one_or_all_at_once_deviations_make_the_same_episodes(by_minute, looks, interval):
    deviations = [
        far(minute, score, beyond=5.0, interval=interval)
        for minute, score in sorted(by_minute.items())
    ]
    track, closed = Track(SERIES), []
    begin = 0
    for until in sorted({*looks, 200}):
        part = [d for d in deviations if begin < d.end_ms // MINUTE <= until]
        events = track.advance(part, until * MINUTE, RULE)
        closed += [event.episode for event in events if event.event == CLOSE]
        begin = until

    whole, last = fold(SERIES, deviations, 200 * MINUTE, RULE)

    assert track.is_idle
    assert last.is_idle
    assert [(e.episode_id, e.starts_at, e.last_at, e.windows, e.peak) for e in closed] == [
        (e.episode_id, e.starts_at, e.last_at, e.windows, e.peak) for e in whole
    ]


@given(minutes)
def test_an_episode_is_three_in_a_row_or_one_extreme_and_ends_after_ten_quiet_minutes(by_minute):
    whole, _ = fold(SERIES, [far(m, s) for m, s in sorted(by_minute.items())], 10**9, RULE)

    for episode in whole:
        first = episode.starts_at // MINUTE
        inside = [m for m in by_minute if first <= m <= episode.last_at // MINUTE]
        assert len(inside) == episode.windows
        assert abs(episode.peak.score) == max(abs(by_minute[m]) for m in inside)
        assert max((b - a for a, b in itertools.pairwise(sorted(inside))), default=0) <= 10
        begun = [by_minute.get(first + n, 0) for n in range(3)]
        signs = {score > 0 for score in begun}
        assert abs(begun[0]) > 8 or len(signs) == 1 or abs(begun[1]) > 8
    for one, other in itertools.pairwise(whole):
        assert other.starts_at - one.last_at >= 10 * MINUTE


def test_three_in_a_row_open_it_and_the_close_says_when_it_was_over():
    assert events_of(far(1), far(2)) == []
    assert events_of(far(1), far(2), far(4)) == []
    assert events_of(far(1), far(2), far(3, -4.0)) == []
    found = events_of(far(1), far(2), far(3), far(4))
    assert told(found) == [(OPEN, 3), (CLOSE, 14)]
    assert (found[1].episode.starts_at, found[1].episode.last_at) == (MINUTE, 4 * MINUTE)
    assert (found[0].episode.windows, found[1].episode.windows) == (3, 4)


def test_only_what_is_beyond_the_tail_of_the_series_opens_it_and_anything_beyond_3_goes_on():
    assert events_of(*(far(n, 4.5, beyond=5.0) for n in range(1, 30))) == []
    assert events_of(far(1, 6, beyond=5.0), far(2, 6, beyond=5.0), far(3, 4, beyond=5.0)) == []
    strong = [far(n, 6.0, beyond=5.0) for n in (1, 2, 3)]
    found = events_of(*strong, far(12, 3.5, beyond=5.0))
    assert told(found) == [(OPEN, 3), (CLOSE, 22)]


def test_numbers_of_a_series_that_has_one_every_five_minutes_are_in_a_row():
    found = events_of(*(far(n, interval=5) for n in (5, 10, 15, 20, 35)))
    assert told(found) == [(OPEN, 15), (CLOSE, 50)]
    assert events_of(far(5, interval=5), far(15, interval=5), far(25, interval=5)) == []


def test_one_extreme_minute_opens_it_and_one_that_comes_later_is_told():
    assert told(events_of(far(5, 8.5))) == [(OPEN, 5), (CLOSE, 15)]
    found = events_of(far(1), far(2), far(3), far(4, -9.0), far(5, -12.0))
    assert told(found) == [(OPEN, 3), (UPDATE, 4), (CLOSE, 15)]
    assert [event.episode.severity for event in found] == ["warning", "critical", "critical"]
    assert found[-1].episode.peak.score == -12.0


def test_what_lasts_is_told_every_hour():
    found = events_of(*(far(minute) for minute in range(1, 181)), until=180)
    assert told(found)[0] == (OPEN, 3)
    track, events = Track(SERIES), []
    for minute in range(1, 181):
        events += track.advance([far(minute)], minute * MINUTE, RULE)
    assert told(events) == [(OPEN, 3), (UPDATE, 63), (UPDATE, 123)]
    assert track.episode.windows == 180


def test_an_event_has_the_same_identity_each_time_and_no_other_event_has_it():
    first, again = (events_of(far(1), far(2), far(3)) for _ in range(2))
    assert [e.event_id for e in first] == [e.event_id for e in again]
    assert len({e.event_id for e in first}) == 2
    other = Track(SERIES + 1).advance([far(1), far(2), far(3)], 10**9, RULE)
    assert first[0].episode.episode_id != other[0].episode.episode_id


@given(minutes, minutes)
def test_restating_makes_of_what_was_told_what_is_found(before, after):
    until = 10**9
    was, _ = fold(SERIES, [far(m, s) for m, s in sorted(before.items())], until, RULE)
    now, _ = fold(SERIES, [far(m, s) for m, s in sorted(after.items())], until, RULE)

    events, ids = restated(was, now, until)

    state = {episode.episode_id: episode for episode in was}
    for event in events:
        if event.event == OPEN:
            assert event.episode.episode_id not in state
        else:
            assert event.episode.episode_id in state
        state[event.episode.episode_id] = event.episode
        if event.event == WITHDRAW:
            del state[event.episode.episode_id]
    assert sorted((e.starts_at, e.last_at, e.windows) for e in state.values()) == [
        (e.starts_at, e.last_at, e.windows) for e in now
    ]
    assert set(ids.values()) <= {e.episode_id for e in was}
    if before == after:
        assert events == []


def test_a_repair_that_brings_an_episode_back_withdraws_it_and_one_that_moves_it_restates_it():
    (was,), _ = fold(SERIES, [far(n) for n in range(10, 20)], 10**9, RULE)
    (now,), _ = fold(SERIES, [far(n) for n in range(8, 25)], 10**9, RULE)
    ((event,), _) = restated([was], [now], 10**9)
    assert (event.event, event.episode.episode_id) == (RESTATE, was.episode_id)
    assert event.episode.starts_at == 8 * MINUTE
    ((event,), _) = restated([was], [], 10**9)
    assert (event.event, event.episode.windows, event.episode.state) == (WITHDRAW, 0, "withdrawn")


def test_many_series_of_one_group_that_open_in_one_minute_share_an_identity():
    events = [
        event
        for series in range(8)
        for event in Track(series).advance([far(1), far(2), far(3)], 3 * MINUTE, RULE)
    ]
    keys = {series: ("api",) if series < 6 else ("db",) for series in range(8)}
    ids = [event.episode.group_id for event in grouped(events, keys, {"default": RULE})]
    assert len(set(ids[:6])) == 1
    assert ids[0] is not None
    assert ids[6:] == [None, None]


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_a_rule_says_how_many_in_a_row_open_it(windows):
    rule = Rule(windows=windows)
    found = events_of(*(far(n) for n in range(1, windows + 1)), rule=rule)
    assert told(found)[0] == (OPEN, windows)
