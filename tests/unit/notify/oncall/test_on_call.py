"""oncall.yml in the notifier: steps until acknowledged or resolved, schedules, watchdogs."""

import pytest

from varve.notify.alerts import Sending
from varve.notify.cluster.replication import everything, merge
from varve.notify.config.document import ConfigError
from varve.notify.config.load import read_config
from varve.notify.groups import Outcome
from varve.notify.http import on_call_api
from varve.notify.http.bodies import Refused
from varve.notify.matchers import parse_matchers
from varve.notify.notifier import WATCHDOG_ALERT, Notifier
from varve.notify.oncall.load import read_on_call
from varve.notify.records import Silence

MINUTE = 60_000
START_MS = 1_795_000_000_000 // MINUTE * MINUTE
CONFIG = read_config(
    "route: {receiver: team, group_by: [alertname], group_wait: 0s, group_interval: 1m,"
    " repeat_interval: 4h}\nreceivers:\n"
    + "".join(
        f"- name: {name}\n  webhook_configs: [{{url: 'http://{name}/'}}]\n"
        for name in ("team", "anna", "ben", "boss")
    )
)
ON_CALL = """
schedules:
  primary:
    rotations:
    - {members: [anna, ben], starts: 2026-01-01T00:00, shift: 1d}
receivers:
  team:
  - {notify: [schedule:primary]}
  - {after: 10m, notify: [boss]}
"""


class Run:
    """A notifier on a clock, and who was told what when, in minutes."""

    def __init__(self, on_call=ON_CALL, stored=()):
        read = read_on_call(on_call, CONFIG.receivers)
        self.notifier = Notifier(CONFIG, on_call=read)
        self.now_ms = START_MS
        self.notifier.start(self.now_ms, stored)
        self.told = []
        self.outcomes = {}
        """What receivers say; the others take everything."""

    def fires(self, name="A", *, ends=False):
        sending = Sending({"alertname": name}, {}, None, self.now_ms if ends else None)
        assert self.notifier.put_alerts([sending], self.now_ms) == []

    def minutes(self, count, *firing):
        """Time passes; what fires is sent again each minute."""
        for _ in range(count):
            for name in firing:
                self.fires(name)
            until_ms = self.now_ms + MINUTE
            while (due := self.notifier.next_due_ms()) is not None and due < until_ms:
                self.now_ms = max(self.now_ms, due)
                for delivery in self.notifier.due(self.now_ms):
                    at = (self.now_ms - START_MS) // MINUTE
                    message = delivery.message
                    outcome = self.outcomes.get(message.receiver, Outcome.TAKEN)
                    if outcome is Outcome.TAKEN:
                        self.told.append((at, message.receiver, message.status))
                    self.notifier.attempted(delivery, outcome, self.now_ms)
            self.now_ms = until_ms

    def silence(self):
        """Nobody is told of A for an hour."""
        end_ms = self.now_ms + 60 * MINUTE
        matchers = (("alertname", "=", "A"),)
        self.notifier.put_silence(
            Silence("", matchers, self.now_ms, end_ms, 0, "", ""), self.now_ms
        )

    def acknowledge(self, text="alertname=A", by="anna"):
        return self.notifier.acknowledge(parse_matchers(text), by, self.now_ms)


def on_call_now(run):
    return run.notifier.on_call.schedules["primary"].on_call(START_MS)[0]


def test_who_is_on_call_is_told_and_others_once_nobody_acknowledges():
    run = Run()

    run.minutes(20, "A")

    assert sorted(run.told) == sorted(
        [(0, "team", "firing"), (0, on_call_now(run), "firing"), (10, "boss", "firing")]
    )


def test_an_acknowledgement_ends_the_escalation_and_the_end_is_told_to_who_knew():
    run = Run()
    run.minutes(5, "A")
    assert len(run.acknowledge()) == 1

    run.minutes(20, "A")
    run.fires("A", ends=True)
    run.minutes(3)

    names = {"team", on_call_now(run)}
    assert {(name, status) for _, name, status in run.told} == {
        (name, status) for name in names for status in ("firing", "resolved")
    }
    assert len(run.told) == 4


def test_the_end_is_told_to_everybody_whom_the_escalation_reached():
    run = Run()
    run.minutes(12, "A")
    run.fires("A", ends=True)
    run.minutes(3)

    ended = [name for _, name, status in run.told if status == "resolved"]
    assert sorted(ended) == sorted(["team", on_call_now(run), "boss"])


def test_an_acknowledgement_counts_until_the_alert_has_ended():
    run = Run()
    run.minutes(2, "A")
    run.acknowledge()
    run.fires("A", ends=True)
    run.minutes(3)

    run.minutes(12, "A")

    assert [name for _, name, status in run.told].count("boss") == 1


def test_an_acknowledgement_survives_a_restart_and_reaches_other_notifiers():
    run = Run()
    run.minutes(1, "A")
    run.acknowledge(by="ben")

    again = Run(stored=run.notifier.snapshot())
    other = Run()
    merge(other.notifier, everything(run.notifier), run.now_ms)

    for one in (again, other):
        (entry,) = one.notifier.entries.values()
        assert one.notifier.acknowledged_by(entry.alert) == "ben"


def test_without_a_chain_nothing_is_other_than_before():
    run = Run("receivers: {}")

    run.minutes(20, "A")

    assert run.told == [(0, "team", "firing")]


@pytest.mark.parametrize("told", [True, False])
def test_the_end_of_what_was_silenced_meanwhile_is_told_if_that_is_wanted(told):
    run = Run(f"silenced_ends: {str(told).lower()}")
    run.minutes(2, "A")
    silence = Silence(
        "", (("alertname", "=", "A"),), run.now_ms, run.now_ms + 60 * MINUTE, 0, "", ""
    )
    run.notifier.put_silence(silence, run.now_ms)
    run.minutes(2, "A")
    run.fires("A", ends=True)
    run.minutes(3)

    assert [status for _, _, status in run.told] == ["firing", *(["resolved"] if told else [])]


def test_the_end_of_what_was_silenced_from_the_beginning_is_never_told():
    run = Run("silenced_ends: true")
    silence = Silence(
        "", (("alertname", "=", "A"),), run.now_ms, run.now_ms + 60 * MINUTE, 0, "", ""
    )
    run.notifier.put_silence(silence, run.now_ms)
    run.minutes(2, "A")
    run.fires("A", ends=True)
    run.minutes(3)

    assert run.told == []


WATCHDOG = """
watchdogs:
- {name: prometheus, matchers: [alertname=Watchdog], within: 5m, labels: {severity: page}}
"""


def test_an_expected_alert_that_stays_away_is_told_and_its_return():
    run = Run(WATCHDOG)
    run.minutes(8, "Watchdog")
    assert not any(WATCHDOG_ALERT in dict(key).values() for key in run.notifier.entries)

    run.minutes(10)
    (alert,) = [
        entry.alert
        for entry in run.notifier.entries.values()
        if entry.labels["alertname"] == WATCHDOG_ALERT
    ]
    assert dict(alert.labels) == {
        "alertname": WATCHDOG_ALERT,
        "watchdog": "prometheus",
        "severity": "page",
    }
    assert not alert.resolved_at(run.now_ms)

    run.minutes(3, "Watchdog")
    assert run.notifier.entries[alert.labels].alert.resolved_at(run.now_ms)
    # The expected alert itself is told, too, and what is silent only once.
    assert [status for at, _, status in run.told if at >= 12].count("firing") <= 2


def test_one_that_was_never_heard_of_is_told_as_well():
    run = Run(WATCHDOG)

    run.minutes(7)

    assert any(
        entry.labels["alertname"] == WATCHDOG_ALERT for entry in run.notifier.entries.values()
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("receivers: {nobody: []}", "'nobody' is no receiver"),
        ("receivers: {team: [{notify: [schedule:x]}]}", "there is no schedule 'x'"),
        ("fallback: {receiver: nobody}", "'nobody' is no receiver"),
        ("receivers: {team: [{notify: []}]}", "nobody is told"),
        ("schedules: {s: {time_zone: Mars/Olympus}}", "is no time zone"),
        ("schedules: {s: {}}", "no rotation"),
        (
            "schedules: {s: {rotations: [{members: [carl], starts: 2026-01-01T00:00, shift: 1d}]}}",
            "'carl' is no receiver",
        ),
        ("watchdogs: [{name: w, matchers: [], within: 1m}]", "would be any alert"),
        ("watchdogs: [{name: w, matchers: ['{}'], within: 1m}]", "would be any alert"),
        ("watchdogs: [{name: w, matchers: ['a=~['], within: 1m}]", "matchers"),
        ("nonsense: 1", "nonsense"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, wrong):
    with pytest.raises(ConfigError, match=wrong) as found:
        read_on_call(text, CONFIG.receivers)

    assert str(found.value).startswith("oncall.yml:1:")


def test_acknowledging_over_http_names_who_and_what():
    run = Run()
    run.minutes(1, "A", "B")

    done = on_call_api.acknowledge(
        run.notifier, b'{"matchers": ["alertname=A"], "by": "anna"}', run.now_ms
    )
    shown = on_call_api.get_on_call(run.notifier, run.now_ms)

    assert done == {"acknowledged": [{"alertname": "A"}]}
    assert [(one["labels"], one["by"]) for one in shown["acknowledged"]] == [
        ({"alertname": "A"}, "anna")
    ]
    assert shown["schedules"][0]["name"] == "primary"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"matchers": [], "by": "a"}', b'{"matchers": ["a=b"], "by": " "}']
)
def test_an_acknowledgement_of_nothing_or_by_nobody_is_refused(body):
    with pytest.raises(Refused):
        on_call_api.acknowledge(Run().notifier, body, START_MS)
