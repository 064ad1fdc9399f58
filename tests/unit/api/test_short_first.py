"""Who gives way to whom: those that have run for a while to those that have just begun."""

from __future__ import annotations

import threading

import pytest

from varve.api.short_first import LONGEST_WAIT_S, YOUNG_S, ShortFirst

DEADLINE_S = 60


class Counted(ShortFirst):
    """By a clock that stands still but for waits, each of which takes as long as it may."""

    def __init__(self):
        self.time_s, self.waits = 100.0, 0
        super().__init__(lambda: self.time_s)

    def wait(self):
        self.waits += 1
        self.time_s += LONGEST_WAIT_S


def grown(requests):
    """A request that has run for a while."""
    turn = requests.begin()
    requests.time_s += YOUNG_S
    turn.give_way()
    return turn


def test_a_young_request_waits_for_nobody():
    requests = Counted()
    turns = [requests.begin() for _ in range(3)]
    requests.time_s += 0.9 * YOUNG_S
    for turn in turns:
        turn.give_way()
    assert (requests.young, requests.waits) == (3, 0)


def test_one_that_has_run_for_a_while_waits_while_another_is_young_and_only_then():
    requests = Counted()
    old = grown(requests)
    old.give_way()
    assert requests.waits == 0
    young = requests.begin()
    old.give_way()
    assert requests.waits == 1
    young.end()
    requests.time_s += 1
    old.give_way()
    assert requests.waits == 1


@pytest.mark.parametrize("check_every_s", [0.0001, 0.003, 0.02])
def test_it_keeps_half_of_its_speed_however_many_come(check_every_s):
    requests = Counted()
    old = grown(requests)
    began_s = requests.time_s
    while requests.time_s < began_s + 10:
        requests.begin()  # another each time, and none of them ends
        requests.time_s += check_every_s
        old.give_way()
    waited_s = LONGEST_WAIT_S * requests.waits
    assert 0 < waited_s <= 0.5 * (requests.time_s - began_s) + LONGEST_WAIT_S


def test_a_request_is_young_once_however_often_it_ends():
    requests = Counted()
    kept = requests.begin()
    one = requests.begin()
    for _ in range(3):
        one.end()
        one.give_way()
    assert requests.young == 1
    kept.end()
    assert requests.young == 0


def test_it_goes_on_as_soon_as_none_is_young(monkeypatch):
    monkeypatch.setattr("varve.api.short_first.LONGEST_WAIT_S", DEADLINE_S)
    time_s = [0.0]
    requests = ShortFirst(lambda: time_s[0])
    old = requests.begin()
    time_s[0] += YOUNG_S
    old.give_way()
    young, went_on = [requests.begin(), requests.begin()], threading.Event()

    def give_way():
        old.give_way()
        went_on.set()

    thread = threading.Thread(target=give_way)
    thread.start()
    young[0].end()
    assert not went_on.wait(0.05)
    young[1].end()
    assert went_on.wait(DEADLINE_S)
    thread.join()


def test_many_threads_leave_nobody_behind():
    requests = ShortFirst()

    def live():
        for _ in range(300):
            turn = requests.begin()
            turn.give_way()
            turn.end()

    threads = [threading.Thread(target=live) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert requests.young == 0
