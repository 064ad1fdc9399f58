"""Receivers that are told at most so much in a while: the rest comes as one digest."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.notify.oncall.test_on_call import MINUTE, START_MS
from varve.notify.alerts import Sending
from varve.notify.config.document import ConfigError
from varve.notify.config.load import read_config
from varve.notify.groups import Outcome
from varve.notify.notifier import Notifier
from varve.notify.oncall.load import read_on_call
from varve.notify.throttling import DIGEST

CONFIG = read_config("""
route:
  receiver: team
  group_by: [alertname]
  group_wait: 0s
  group_interval: 5m
  routes: [{receiver: other, matchers: ['alertname=~"other.*"']}]
receivers:
- {name: team, webhook_configs: [{url: 'http://team/'}]}
- {name: other, webhook_configs: [{url: 'http://other/'}]}
- name: pager
  pagerduty_configs: [{routing_key: abc}]
""")
ON_CALL = "throttles: {team: {messages: 3, per: 10m}}"
PER_MS = 10 * MINUTE


@dataclass(frozen=True)
class Heard:
    at_ms: int
    receiver: str
    reason: str
    firing: frozenset[str]
    resolved: frozenset[str]


class Run:
    """A notifier on a clock; receivers take what they are sent, unless told otherwise."""

    def __init__(self, stored=(), now_ms=START_MS):
        self.notifier = Notifier(CONFIG, on_call=read_on_call(ON_CALL, CONFIG.receivers))
        self.now_ms = now_ms
        self.notifier.start(now_ms, stored)
        self.heard: list[Heard] = []
        self.outcome = Outcome.TAKEN

    def fires(self, *names: str, ends: bool = False) -> None:
        end_ms = self.now_ms if ends else self.now_ms + 300 * MINUTE
        sendings = [Sending({"alertname": n}, {}, self.now_ms, end_ms) for n in names]
        assert self.notifier.put_alerts(sendings, self.now_ms) == []

    def until(self, at_ms: int) -> None:
        while (due := self.notifier.next_due_ms()) is not None and due <= at_ms:
            self.now_ms = max(self.now_ms, due)
            for delivery in self.notifier.due(self.now_ms):
                told = delivery.message.alerts
                if self.outcome is Outcome.TAKEN:
                    self.heard.append(
                        Heard(
                            self.now_ms,
                            delivery.message.receiver,
                            delivery.reason,
                            names(one for one in told if one.firing),
                            names(one for one in told if not one.firing),
                        )
                    )
                self.notifier.attempted(delivery, self.outcome, self.now_ms)
        self.now_ms = max(self.now_ms, at_ms)


def names(told) -> frozenset[str]:
    return frozenset(dict(one.alert.labels)["alertname"] for one in told)


def test_what_is_over_the_bound_comes_as_one_digest_once_there_is_room():
    run = Run()
    run.fires("a", "b", "c", "d", "e")

    run.until(START_MS + PER_MS - 1)
    first = [(one.reason, *one.firing) for one in run.heard]
    run.until(START_MS + PER_MS)

    assert first == [("new", "a"), ("new", "b"), ("new", "c")]
    assert run.heard[3:] == [Heard(START_MS + PER_MS, "team", DIGEST, frozenset("de"), frozenset())]


def test_what_was_told_in_a_digest_is_not_told_again_and_its_end_is():
    run = Run()
    run.fires("a", "b", "c", "d", "e")
    run.until(START_MS + PER_MS)
    run.heard = []

    run.until(START_MS + 60 * MINUTE)
    assert run.heard == []
    run.fires("d", ends=True)
    run.until(START_MS + 70 * MINUTE)

    assert [(one.reason, one.resolved) for one in run.heard] == [("end", frozenset("d"))]


def test_an_alert_that_began_and_ended_while_it_waited_is_told_nowhere_as_firing():
    run = Run()
    run.fires("a", "b", "c", "d", "e")
    run.until(START_MS + MINUTE)

    run.fires("d", ends=True)
    run.until(START_MS + 30 * MINUTE)

    assert all("d" not in one.firing for one in run.heard)
    assert [one.firing for one in run.heard[3:]] == [frozenset("e")]


def test_other_receivers_are_told_at_once():
    run = Run()
    run.fires("a", "b", "c", "d", "other1", "other2", "other3", "other4", "other5")

    run.until(START_MS)

    assert sum(one.receiver == "other" for one in run.heard) == 5


def test_a_digest_that_fails_is_tried_again_whole():
    run = Run()
    run.fires("a", "b", "c", "d", "e")
    run.until(START_MS)

    run.outcome = Outcome.FAILED
    run.until(START_MS + PER_MS + MINUTE)
    run.outcome = Outcome.TAKEN
    run.until(START_MS + PER_MS + 4 * MINUTE)

    assert [one.firing for one in run.heard[3:]] == [frozenset("de")]


def test_a_restart_does_not_begin_to_count_anew():
    run = Run()
    run.fires("a", "b", "c")
    run.until(START_MS)

    again = Run(run.notifier.snapshot(), START_MS + MINUTE)
    again.fires("d")
    again.until(START_MS + 3 * MINUTE)

    # The three have one time in the log, and so count as one message.
    assert len(again.heard) == 1
    again.fires("e", "f")
    again.until(START_MS + 4 * MINUTE)
    assert len(again.heard) <= 2


steps = st.lists(
    st.tuples(st.integers(0, 6), st.lists(st.sampled_from("abcdefgh"), max_size=8), st.booleans()),
    max_size=12,
)


@settings(max_examples=150)
@given(steps=steps)
def test_no_receiver_is_told_more_and_in_the_end_nothing_is_left_out(steps):
    run, fires = Run(), set()
    for minutes, named, ends in steps:
        run.until(run.now_ms + minutes * MINUTE)
        some = [name for name in named if not ends or name in fires]
        run.fires(*some, ends=ends)
        fires = fires - set(some) if ends else fires | set(some)
    run.until(run.now_ms + 40 * MINUTE)

    times = [one.at_ms for one in run.heard]
    assert all(sum(at - PER_MS < other <= at for other in times) <= 3 for at in times), (
        "more than the bound"
    )
    state: dict[str, bool] = {}
    for one in run.heard:
        state |= dict.fromkeys(one.firing, True) | dict.fromkeys(one.resolved, False)
    assert {name for name, firing in state.items() if firing} == fires


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("throttles: {nobody: {messages: 1, per: 1m}}", "no receiver"),
        ("throttles: {team: {messages: 0, per: 1m}}", "not above zero"),
        ("throttles: {team: {messages: 1, per: 0s}}", "not above zero"),
        ("throttles: {pager: {messages: 1, per: 1m}}", "opens incidents"),
        ("flapping: {fires: 1}", "at least 2"),
    ],
)
def test_what_is_wrong_is_said(text, wrong):
    with pytest.raises(ConfigError, match=wrong):
        read_on_call(text, CONFIG.receivers)
