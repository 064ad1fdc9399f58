"""A receiver that takes nothing is told to the fallback, and shown."""

from __future__ import annotations

import pytest

from tests.unit.notify.oncall.test_on_call import START_MS, Run
from varve.notify.cluster.replication import everything, merge
from varve.notify.groups import Outcome
from varve.notify.http import on_call_api
from varve.notify.oncall.failing_receivers import RECEIVER_ALERT
from varve.notify.times import format_ms

ON_CALL = "fallback: {receiver: boss, after: 5m, labels: {severity: page}}"


def to_boss(run):
    return [(at, status) for at, receiver, status in run.told if receiver == "boss"]


def shown(run):
    return on_call_api.get_on_call(run.notifier, run.now_ms)["failing"]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REFUSED])
def test_the_fallback_is_told_once_and_when_messages_are_taken_again(outcome):
    run = Run(ON_CALL)
    run.outcomes["team"] = outcome

    run.minutes(20, "A")
    assert to_boss(run) == [(5, "firing")]
    (alert,) = [e for e in run.notifier.entries.values() if "receiver" in e.labels]
    assert alert.labels == {
        "alertname": RECEIVER_ALERT,
        "receiver": "team",
        "integration": "webhook[0]",
        "severity": "page",
    }
    (one,) = shown(run)
    assert (one["receiver"], one["integration"], one["since"]) == (
        *("team", "webhook[0]"),
        format_ms(START_MS),
    )

    run.outcomes.clear()
    run.minutes(10, "A")
    assert [status for _, status in to_boss(run)] == ["firing", "resolved"]
    assert ("team", "firing") in {(receiver, status) for _, receiver, status in run.told}
    assert shown(run) == []


def test_what_fails_for_less_is_told_to_nobody():
    run = Run(ON_CALL)
    run.outcomes["team"] = Outcome.FAILED
    run.minutes(4, "A")
    run.outcomes.clear()

    run.minutes(20, "A")

    assert to_boss(run) == []


@pytest.mark.parametrize(("text", "fails"), [("", "team"), (ON_CALL, "boss")])
def test_without_a_fallback_and_of_the_fallback_itself_nobody_is_told(text, fails):
    run = Run(text)
    run.outcomes[fails] = run.outcomes["team"] = Outcome.FAILED

    run.minutes(20, "A")

    assert run.told == []
    assert "team" in {one["receiver"] for one in shown(run)}


def test_a_notifier_that_makes_no_attempts_does_not_end_what_another_one_tells():
    run, other = Run(ON_CALL), Run(ON_CALL)
    other.minutes(1, "A")  # it told team of something before
    run.outcomes["team"] = other.outcomes["team"] = Outcome.FAILED
    run.minutes(8, "B")
    other.now_ms = run.now_ms
    merge(other.notifier, everything(run.notifier), other.now_ms)
    other.told.clear()

    other.minutes(2)

    assert ("boss", "resolved") not in {(receiver, status) for _, receiver, status in other.told}


def test_one_that_nothing_was_tried_with_for_an_hour_is_not_said_to_fail():
    run = Run(ON_CALL)
    run.outcomes["team"] = Outcome.REFUSED
    run.fires("A")
    run.minutes(1)
    run.notifier.dispatcher.groups.clear()  # nothing is left to tell

    run.minutes(70)

    assert shown(run) == []
