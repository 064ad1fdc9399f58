"""Notifiers that hear of each other's changes come to the same state, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.notify.stage import CONFIG, MINUTE_MS, Stage
from varve.notify.cluster.replication import everything, merge
from varve.notify.config import read_config
from varve.notify.groups import Outcome
from varve.notify.notifier import Notifier
from varve.notify.records import Alert, Silence, Told

NOW_MS = 1_000

alerts = st.builds(
    Alert,
    id=st.integers(1, 5),
    labels=st.sampled_from([(("a", "1"),), (("a", "2"),)]),
    annotations=st.just({}),
    starts_ms=st.just(0),
    ends_ms=st.integers(2_000, 2_002),
    updated_ms=st.integers(0, 3),
    timeout=st.just(False),
    generator_url=st.just(""),
    fingerprint=st.just(7),
)
silences = st.builds(
    Silence,
    id=st.sampled_from("st"),
    matchers=st.just((("a", "=", "1"),)),
    starts_ms=st.just(0),
    ends_ms=st.integers(0, 3),
    updated_ms=st.integers(0, 2),
    created_by=st.just(""),
    comment=st.just(""),
)
told = st.builds(
    Told,
    key=st.sampled_from("xy"),
    firing=st.sampled_from([(), (1,), (1, 2)]),
    resolved=st.just(()),
    at_ms=st.integers(0, 2),
    expires_ms=st.just(9_999),
)
records = st.lists(st.one_of(silences, told), max_size=12)


def notifier() -> Notifier:
    made = Notifier(read_config(CONFIG))
    made.start(0)
    return made


@given(records, st.randoms(use_true_random=False))
def test_silences_and_the_log_are_the_same_in_whatever_order_records_come(records, chance):
    one, other = notifier(), notifier()
    shuffled = list(records)
    chance.shuffle(shuffled)

    merge(one, records, NOW_MS)
    for record in shuffled:
        merge(other, [record], NOW_MS)

    assert set(map(repr, everything(one))) == set(map(repr, everything(other)))
    assert merge(one, everything(other), NOW_MS) == []  # nothing is news any more


@given(st.lists(alerts, max_size=8))
def test_the_alert_that_was_sent_last_counts(found):
    one = notifier()
    for alert in found:
        merge(one, [alert], NOW_MS)

    for labels, entry in one.entries.items():
        # max gives the first of equals, which is the one that was there already.
        newest = max((a for a in found if a.labels == labels), key=lambda a: a.updated_ms)
        assert entry.alert.ends_ms == newest.ends_ms
    assert {a.labels for a in found} == one.entries.keys()


class Second:
    """It is the second of two."""

    def wait_ms(self, now_ms: int) -> int:
        return 15_000


def test_the_second_tells_only_what_the_first_has_not_told_in_time():
    stage = Stage()
    stage.notifier.turns = Second()
    stage.send("x", lasts_ms=60 * MINUTE_MS)
    stage.run_until(40_000)
    assert stage.heard == []

    stage.run_until(50_000)

    assert [h.at_ms for h in stage.heard] == [45_000]


def test_the_second_is_silent_once_it_hears_that_the_first_has_told():
    first, second = Stage(), Stage()
    second.notifier.turns = Second()
    for stage in (first, second):
        stage.send("x", lasts_ms=60 * MINUTE_MS)
        stage.run_until(30_000)
    merge(second.notifier, everything(first.notifier), 30_500)

    second.run_until(20 * MINUTE_MS)

    assert [h.firing for h in first.heard] == [{"x"}]
    assert second.heard == []


class Settling:
    """It does not know yet whether there are others."""

    settled = False

    def wait_ms(self, now_ms: int) -> int | None:
        return 0 if self.settled else None


def test_nothing_is_told_before_it_is_known_whose_turn_it_is():
    stage, turns = Stage(), Settling()
    stage.notifier.turns = turns
    stage.send("x", lasts_ms=60 * MINUTE_MS)
    stage.run_until(50_000)
    assert stage.attempts == []

    turns.settled = True
    stage.run_until(51_000)

    assert len(stage.heard) == 1


def test_what_fails_here_is_tried_again_by_the_one_whose_turn_it_is():
    stage = Stage(outcome=lambda _: Outcome.FAILED)
    stage.notifier.turns = Second()
    stage.send("x", lasts_ms=60 * MINUTE_MS)
    stage.run_until(60_000)

    assert stage.attempts[0][0] == 45_000
    assert len(stage.attempts) > 3
