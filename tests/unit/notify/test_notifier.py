"""The state machine: restarts, retries, reloads, and what is forgotten when."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.notify.stage import CONFIG, MINUTE_MS, Stage
from varve.notify import records
from varve.notify.circuit import FAILURES_TO_OPEN, LONGEST_PAUSE_MS
from varve.notify.config import read_config
from varve.notify.groups import Outcome
from varve.notify.matchers import Matcher
from varve.notify.records import Silence
from varve.notify.silences import stored_matchers
from varve.notify.state import Options

TWO = """
route:
  receiver: a
  group_by: [alertname]
  routes: [{matchers: ['instance=~".*"'], receiver: b, continue: true}, {receiver: a}]
receivers:
  - {name: a, webhook_configs: [{url: 'http://a/'}]}
  - {name: b, webhook_configs: [{url: 'http://b/', send_resolved: false}]}
inhibit_rules: [{source_matchers: [instance=x], target_matchers: [instance=y]}]
"""

steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "resolve", "silence", "wait"]),
        st.sampled_from(["x", "y", "z"]),
        st.integers(1, 400),
    ),
    max_size=12,
)


def in_order(stage: Stage) -> list:
    """Groups of one moment have no order."""
    return sorted(stage.heard, key=lambda heard: (heard.at_ms, heard.to, heard.key))


@settings(max_examples=60)
@example([("send", "x", 1), ("send", "x", 1), ("resolve", "x", 28), ("send", "y", 1)], {0, 3})
@given(steps, st.sets(st.integers(0, 11), max_size=4))
def test_a_process_that_is_killed_at_any_time_and_starts_at_once_tells_the_same(steps, kills):
    """Nothing is flushed at the end: what is in the journal is all that the next process has."""
    steady, killed = Stage(TWO), Stage(TWO)
    for i, (kind, name, seconds) in enumerate(steps):
        for stage in (steady, killed):
            if kind == "send":
                stage.send(name)
            elif kind == "resolve":
                stage.resolve(name)
            elif kind == "silence":
                matchers = stored_matchers([Matcher("instance", "=", name)])
                wanted = Silence("", matchers, 0, stage.now_ms + 90_000, 0, "", "")
                stage.notifier.put_silence(wanted, stage.now_ms)
                stage.store()
        if i in kills:
            killed.start()
        for stage in (steady, killed):
            stage.run_until(stage.now_ms + seconds * 1000)
    for stage in (steady, killed):
        stage.run_until(stage.now_ms + 20 * MINUTE_MS)

    assert in_order(killed) == in_order(steady)


@settings(max_examples=30)
@given(steps)
def test_a_snapshot_is_as_good_as_the_journal(steps):
    stage = Stage(TWO)
    for kind, name, seconds in steps:
        if kind == "resolve":
            stage.resolve(name)
        else:
            stage.send(name)
        stage.run_until(stage.now_ms + seconds * 1000)
    other = Stage(TWO)
    other.now_ms, other.stored = stage.now_ms, list(stage.notifier.snapshot())
    other.heard = list(stage.heard)
    other.start()
    for each in (stage, other):
        each.run_until(each.now_ms + 20 * MINUTE_MS)

    assert in_order(other) == in_order(stage)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "resolve", "fail", "refuse", "take", "kill", "reload"]),
            st.sampled_from(["x", "y", "z"]),
            st.integers(1, 400),
        ),
        max_size=15,
    )
)
def test_whatever_fails_in_between_in_the_end_everything_is_told_and_nothing_twice(steps):
    outcomes = {"fail": Outcome.FAILED, "refuse": Outcome.REFUSED, "take": Outcome.TAKEN}
    stage, firing, now = Stage(TWO), set(), {"outcome": Outcome.TAKEN}
    stage.outcome = lambda _: now["outcome"]
    for kind, name, seconds in steps:
        match kind:
            case "send":
                stage.send(name, lasts_ms=600 * MINUTE_MS)
                firing.add(name)
            case "resolve":
                stage.resolve(name)
                firing.discard(name)
            case "kill":
                stage.start()
            case "reload":
                stage.notifier.reload(read_config(TWO), stage.now_ms)
                stage.store()
            case _:
                now["outcome"] = outcomes[kind]
        stage.run_until(stage.now_ms + seconds * 1000)
    now["outcome"] = Outcome.TAKEN
    stage.run_until(stage.now_ms + 15 * MINUTE_MS)

    keys = [heard.key for heard in stage.heard]
    assert len(keys) == len(set(keys))
    wanted = firing - {"y"} if "x" in firing else firing
    for receiver in "ab":
        heard = [h for h in stage.heard if h.to == receiver]
        assert wanted <= (heard[-1].firing if heard else set())


def test_a_process_that_ends_within_an_attempt_tries_again_at_once_with_the_same_key():
    stage = Stage(outcome=lambda _: Outcome.FAILED)
    stage.send("x", lasts_ms=MINUTE_MS * 60)
    stage.run_until(35_000)
    (_, _, key), *_ = stage.attempts

    stage.outcome = lambda _: Outcome.TAKEN
    stage.now_ms = 50_000
    stage.start()
    stage.run_until(51_000)

    assert [(h.at_ms, h.key) for h in stage.heard] == [(50_000, key)]


def test_every_message_has_a_key_of_its_own():
    stage = Stage()
    for _ in range(5):
        stage.send("x")
        stage.run_until(stage.now_ms + 5 * MINUTE_MS)
        stage.resolve("x")
        stage.run_until(stage.now_ms + 6 * MINUTE_MS)

    keys = [h.key for h in stage.heard]
    assert len(keys) == len(set(keys)) > 4


def test_attempts_are_made_ever_less_often_until_the_next_look():
    stage = Stage(outcome=lambda _: Outcome.FAILED)
    stage.send("x", lasts_ms=60 * MINUTE_MS)
    stage.run_until(30_000 + 5 * MINUTE_MS - 1)

    times = [at_ms for at_ms, _, _ in stage.attempts]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] <= 1_000
    assert all(gap <= LONGEST_PAUSE_MS for gap in gaps)
    assert len(times) > 8


def test_a_receiver_that_fails_again_and_again_is_left_alone_and_no_other_waits():
    stage = Stage(TWO, outcome=lambda name: Outcome.FAILED if name == "a" else Outcome.TAKEN)
    for i in range(50):
        stage.send("z", labels={"alertname": f"A{i}"}, lasts_ms=60 * MINUTE_MS)
    stage.run_until(2 * MINUTE_MS)

    to_a = [at_ms for at_ms, name, _ in stage.attempts if name == "a"]
    assert len([h for h in stage.heard if h.to == "b"]) == 50
    # All were tried once, as nothing was known; from then on one at a time.
    assert 50 < len(to_a) < 50 + 20
    assert stage.notifier.dispatcher.circuits["a/webhook/0"].failures > FAILURES_TO_OPEN


def test_when_a_receiver_is_back_everything_that_waited_is_told():
    stage = Stage(outcome=lambda _: Outcome.FAILED)
    for i in range(50):
        stage.send("z", labels={"alertname": f"A{i}"}, lasts_ms=60 * MINUTE_MS)
    stage.run_until(2 * MINUTE_MS)

    stage.outcome = lambda _: Outcome.TAKEN
    stage.run_until(2 * MINUTE_MS + 2 * LONGEST_PAUSE_MS)

    assert len(stage.heard) == 50


def test_a_new_configuration_waits_for_what_the_old_one_is_sending():
    stage = Stage()
    stage.send("x", lasts_ms=60 * MINUTE_MS)
    stage.now_ms = 30_000
    (delivery,) = stage.notifier.due(stage.now_ms)
    stage.notifier.reload(read_config(CONFIG), 40_000)
    stage.now_ms = 40_000

    assert stage.notifier.due(40_000) == []
    stage.notifier.attempted(delivery, Outcome.TAKEN, 41_000)
    stage.run_until(MINUTE_MS)

    assert stage.heard == []  # it was told, by the old one


def test_what_a_new_configuration_takes_over_from_a_failed_attempt_is_tried_again():
    stage = Stage()
    stage.send("x", lasts_ms=60 * MINUTE_MS)
    (delivery,) = stage.notifier.due(30_000)
    stage.notifier.reload(read_config(CONFIG), 40_000)
    stage.notifier.due(40_000)
    stage.notifier.attempted(delivery, Outcome.FAILED, 41_000)
    stage.now_ms = 41_000
    stage.run_until(42_000)

    assert [h.firing for h in stage.heard] == [{"x"}]


def test_alerts_that_have_ended_and_were_told_are_forgotten():
    stage = Stage()
    stage.send("x")
    stage.run_until(31 * MINUTE_MS)

    assert stage.notifier.entries == {}
    assert records.Forgotten(1) in stage.stored
    stage.start()
    assert stage.notifier.entries == {}


def test_an_end_that_could_not_be_told_is_not_forgotten():
    stage = Stage()
    stage.send("x")
    stage.run_until(MINUTE_MS)
    stage.outcome = lambda _: Outcome.FAILED
    stage.resolve("x")
    stage.run_until(3 * 60 * MINUTE_MS)

    stage.outcome = lambda _: Outcome.TAKEN
    stage.run_until(3 * 60 * MINUTE_MS + 6 * MINUTE_MS)

    assert stage.heard[-1].resolved == {"x"}


def test_an_alert_sent_again_takes_a_short_record():
    stage = Stage()
    stage.send("x", starts_ms=0)
    stage.now_ms = MINUTE_MS
    stage.send("x", starts_ms=0)

    assert stage.stored[-1] == records.Sent(1, 5 * MINUTE_MS, MINUTE_MS)


def test_a_start_can_be_delayed():
    stage = Stage(options=replace(Options(), start_delay_ms=2 * MINUTE_MS))
    stage.send("x")
    stage.run_until(3 * MINUTE_MS)

    assert [h.at_ms for h in stage.heard] == [2 * MINUTE_MS]


def test_alerts_of_one_name_can_be_limited():
    stage = Stage(options=replace(Options(), per_alertname_limit=2))

    wrong = stage.send("a", "b", "c", "a")

    assert wrong == ["there are 2 alerts 'Down', and no more are taken"]
    assert len(stage.notifier.entries) == 2


def test_alerts_are_kept_apart_however_alike_their_labels_look():
    stage = Stage(CONFIG.replace("[alertname]", "['...']"))
    stage.send("a", labels={"x": "1"})
    stage.send("a", labels={"x": "1 "})
    stage.send("a", labels={"x1": ""})
    stage.run_until(MINUTE_MS)

    assert len(stage.heard) == 3


@pytest.mark.parametrize("retention_min", [1, 60])
def test_the_notification_log_lasts_until_the_next_look_at_least(retention_min):
    config = CONFIG.replace("group_interval: 5m", "group_interval: 5m, repeat_interval: 1m")
    stage = Stage(config, replace(Options(), retention_ms=retention_min * MINUTE_MS))
    stage.send("x", lasts_ms=60 * MINUTE_MS)
    stage.run_until(2 * MINUTE_MS)
    stage.resolve("x")
    stage.run_until(6 * MINUTE_MS)

    ends = [h for h in stage.heard if h.resolved]
    assert len(ends) == (1 if retention_min == 60 else 0)


@settings(max_examples=30)
@given(st.sets(st.integers(0, 40)))
def test_a_state_of_which_any_part_is_lost_can_be_gone_on_from(lost):
    stage = Stage(TWO)
    for name in ("x", "y", "z"):
        stage.send(name)
        stage.run_until(stage.now_ms + MINUTE_MS)
        stage.send(name, starts_ms=0)
    stage.stored = [record for i, record in enumerate(stage.stored) if i not in lost]

    stage.start()
    stage.send("new", lasts_ms=60 * MINUTE_MS)
    stage.run_until(stage.now_ms + 20 * MINUTE_MS)

    assert "new" in {name for heard in stage.heard for name in heard.firing}
