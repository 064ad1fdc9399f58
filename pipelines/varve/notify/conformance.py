"""Runs whole plans through the notifier on a clock that is set: for ../shared/alerttest.

State goes through a journal in a folder, and a process that is killed is one whose files are closed
with nothing flushed. Receivers answer at once.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from varve.model.clock import ManualClock
from varve.notify.config.basic_receivers import WebhookConfig
from varve.notify.config.load import read_config
from varve.notify.groups import Delivery, Outcome, outcome_of
from varve.notify.http import api
from varve.notify.http.bodies import Query, Refused
from varve.notify.journal import Journal
from varve.notify.notifier import Notifier
from varve.notify.webhook_payload import webhook_payload
from varve.templates.conformance import notification_template


class Adapter:
    """The notifier behind alerttest's interface."""

    def notification_template(self, case: dict[str, Any]) -> str:
        return notification_template(case)

    def notify(self, plan: dict[str, Any]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            run = _Run(plan, Path(folder))
            try:
                return run.outcome()
            finally:
                run.stop(kill=True)


class _Run:
    def __init__(self, plan: dict[str, Any], folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._clock = ManualClock(plan["start_ms"])
        self._config = plan["config"]
        self._answers: dict[str, int] = {}
        self._notifications: list[dict[str, Any]] = []
        self._silences: dict[str, str] = {}
        self._said: dict[str, Any] = {}
        self._notifier: Notifier | None = None
        self._journal: Journal | None = None

    def outcome(self) -> dict[str, Any]:
        self._start()
        for event in self._plan["events"]:
            self._run_until(event["at_ms"] - 1)
            self._clock.at_ms = event["at_ms"]
            self._happen(event)
            self._store()
        self._run_until(self._plan["until_ms"])
        return {
            "notifications": self._notifications,
            "silences": self._silences,
            "answers": self._said,
        }

    def stop(self, *, kill: bool) -> None:
        if self._journal is not None:
            if kill:
                self._journal.abandon()
            else:
                self._journal.close()
        self._notifier = self._journal = None

    def _start(self) -> None:
        self._notifier = Notifier(read_config(self._config))
        self._journal = Journal(self._folder)
        self._notifier.start(self._clock.now_ms(), self._journal.read())
        self._store()

    def _run_until(self, until_ms: int) -> None:
        """Lets time pass: every timer that is due, and every attempt that follows."""
        while (notifier := self._notifier) is not None:
            due_ms = notifier.next_due_ms()
            if due_ms is None or due_ms > until_ms:
                break
            self._clock.at_ms = max(due_ms, self._clock.at_ms)
            for delivery in notifier.due(self._clock.now_ms()):
                outcome = self._attempt(delivery)
                notifier.attempted(delivery, outcome, self._clock.now_ms())
            self._store()
        self._clock.at_ms = max(until_ms, self._clock.at_ms)

    def _store(self) -> None:
        if self._notifier is not None and self._journal is not None and self._notifier.journal:
            self._journal.append(self._notifier.journal)
            self._journal.sync()
            self._notifier.journal.clear()

    def _attempt(self, delivery: Delivery) -> Outcome:
        config = delivery.message.integration.config
        if not isinstance(config, WebhookConfig):
            return Outcome.REFUSED
        name = urlsplit(config.url.get_secret_value()).hostname or ""
        outcome = outcome_of(self._answers.get(name, 200))
        if outcome is Outcome.TAKEN:
            payload = webhook_payload(
                delivery.message,
                external_url="http://notify.example",
                max_alerts=config.max_alerts,
                route_labels={},
            )
            self._notifications.append(
                {"at_ms": self._clock.now_ms(), "receiver": name, "payload": payload}
            )
        return outcome

    def _happen(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind == "answer":
            self._answers[event["receiver"]] = event["status"]
        elif kind == "start":
            self._start()
        elif kind == "stop":
            self.stop(kill=event["kill"])
        elif kind == "reload":
            self._config = event["config"]
            if self._notifier is not None:
                self._notifier.reload(read_config(self._config), self._clock.now_ms())
        elif self._notifier is not None:
            self._request(self._notifier, event)

    def _request(self, notifier: Notifier, event: dict[str, Any]) -> None:
        now_ms, ref = self._clock.now_ms(), event.get("ref", "")
        try:
            match event["kind"]:
                case "alerts":
                    api.post_alerts(notifier, _body(event["alerts"]), now_ms)
                case "silence":
                    silence = dict(event["silence"])
                    if "updates" in event:
                        silence["id"] = self._silences[event["updates"]]
                    answer = api.post_silence(notifier, _body(silence), now_ms)
                    self._silences[ref] = answer["silenceID"]
                case "expire":
                    api.delete_silence(notifier, self._silences[ref], now_ms)
                case "ask":
                    self._said[ref] = _ask(notifier, event, now_ms)
        except Refused as err:
            self._said[ref] = {"status": err.status}


def _ask(notifier: Notifier, event: dict[str, Any], now_ms: int) -> list[dict[str, Any]]:
    query = Query(parse_qsl(event["query"].removeprefix("?"), keep_blank_values=True))
    get = {"alerts": api.get_alerts, "groups": api.get_groups, "silences": api.get_silences}
    answer = list(get[event["what"]](notifier, query, now_ms))
    return msgspec.json.decode(msgspec.json.encode(answer), type=list[dict[str, Any]])


def _body(value: Any) -> bytes:
    return msgspec.json.encode(value)
