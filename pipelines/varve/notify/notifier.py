"""The state machine of notifications: alerts, silences and time in, records and deliveries out.

No I/O and no clock: whoever drives it says what time it is, stores the records that it gives, in
their order, and makes the deliveries that it asks for. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from varve.model.fingerprint import fingerprint
from varve.notify import alerts as received_alerts
from varve.notify import records
from varve.notify.alerts import BadAlert, Sending
from varve.notify.config.load import Configuration
from varve.notify.dispatcher import Dispatcher
from varve.notify.groups import Delivery, Entry, Group, Outcome, Target
from varve.notify.inhibition import Inhibitor
from varve.notify.matchers import Matcher, all_match
from varve.notify.oncall import failing_receivers
from varve.notify.oncall.on_call import OnCall
from varve.notify.records import Acknowledged, Alert, Key, Record, Silence
from varve.notify.routes import digest, route_tree
from varve.notify.state import State

WATCH_MS = 15_000
"""How often it is looked whether expected alerts were heard of, and receivers take messages."""
WATCHDOG_ALERT = "WatchdogSilent"
"""The alert that tells of one that was not."""


@dataclass
class Counts:
    """What has happened."""

    received_firing: int = 0
    received_resolved: int = 0
    invalid: int = 0


class Notifier(State):
    """A notifier: its state, and what changes it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts = Counts()
        self.dispatcher = Dispatcher(self)
        self._by_id: dict[int, Entry] = {}
        self._by_name: dict[str, int] = {}
        self._next_id = 1
        self._watching_since_ms = 0

    # What comes in.

    def put_alerts(self, sendings: Sequence[Sending], now_ms: int) -> list[str]:
        """Takes alerts; what is wrong with those that are refused."""
        wrong = []
        for sending in sendings:
            key = received_alerts.label_key(sending.labels)
            try:
                known = self.entries.get(key)
                received_alerts.check(sending, self.options.mode, labels_known=known is not None)
                self._put(sending, key, known, now_ms)
            except BadAlert as err:
                self.counts.invalid += 1
                wrong.append(str(err))
        return wrong

    def put_silence(self, wanted: Silence, now_ms: int) -> str:
        """Makes or changes a silence; its id. Raises BadSilence, UnknownSilence."""
        changed = self.silences.put(wanted, now_ms)
        self.journal += changed
        return changed[-1].id

    def take_silence(self, silence: Silence) -> None:
        """A silence as another notifier has it."""
        self.journal.append(self.silences.restore(silence))

    def take_told(self, told: records.Told) -> None:
        """What another notifier has told."""
        self.log.put(told)
        self.journal.append(told)

    def acknowledge(self, matchers: Sequence[Matcher], by: str, now_ms: int) -> list[Entry]:
        """Notes that somebody takes care of the alerts that fire and match; which these are."""
        found = [
            entry
            for entry in self.entries.values()
            if not entry.alert.resolved_at(now_ms) and all_match(matchers, entry.labels)
        ]
        for entry in found:
            self.take_acknowledged(Acknowledged(entry.alert.labels, by, now_ms))
        return found

    def take_acknowledged(self, record: Acknowledged) -> None:
        """An acknowledgement, of this notifier or another."""
        self.acknowledged[record.labels] = record
        self.journal.append(record)

    def take_alert(self, theirs: Alert, now_ms: int) -> Alert | None:
        """An alert as another notifier has it; None if this one has it as new, or newer."""
        known = self.entries.get(theirs.labels)
        if known is None and theirs.resolved_at(now_ms - self.options.alerts_gc_ms):
            return None  # it would be forgotten at once
        before = None if known is None else known.alert
        if known is None:
            alert = _with_id(theirs, self._next_id)
            entry = Entry(alert, dict(alert.labels))
            self._add(entry)
            self.journal.append(alert)
        else:
            entry, old = known, known.alert
            alert = _with_id(theirs, old.id)
            if old.updated_ms >= alert.updated_ms:
                return None
            entry.alert = alert
            if msgspec.structs.replace(alert, updated_ms=old.updated_ms) == old:
                return None  # both were sent the same
            self.journal.append(_difference(old, alert))
        self.note_begin(before, alert, now_ms)
        self.inhibitor.observe(alert)
        self.dispatcher.observe(entry, now_ms)
        return alert

    def expire_silence(self, silence_id: str, now_ms: int) -> None:
        """Raises UnknownSilence."""
        self.journal += self.silences.expire(silence_id, now_ms)

    def reload(self, config: Configuration, now_ms: int, *, on_call: OnCall | None = None) -> None:
        """Goes by another configuration: groups are made anew, and what was told stays told.

        on_call: None leaves it as it is.
        """
        self.config = config
        self.on_call = self.on_call if on_call is None else on_call
        self.inhibitor = Inhibitor(config.inhibit_rules)
        for entry in self.entries.values():
            self.inhibitor.observe(entry.alert)
        self.dispatcher.start_anew(now_ms)

    # Time.

    def start(self, now_ms: int, stored: Iterable[Record] = ()) -> None:
        """Takes up the state that was stored, if any, and begins to tell."""
        states: dict[str, records.GroupState] = {}
        stored_digest = ""
        for record in stored:
            match record:
                case records.GroupState():
                    states[record.key] = record
                case records.GroupGone():
                    states.pop(record.key, None)
                case records.Routing():
                    stored_digest = record.digest
                case _:
                    self._restore(record)
        for entry in self._by_id.values():
            self.entries[entry.alert.labels] = entry
            self.inhibitor.observe(entry.alert)
            self._count_name(entry, 1)
        self.timers.add(now_ms + self.options.alerts_gc_ms, self._collect_alerts)
        self.timers.add(now_ms + self.options.maintenance_ms, self._maintain)
        self._watching_since_ms = now_ms
        self.timers.add(now_ms + WATCH_MS, self._watch)
        not_before_ms = now_ms + self.options.start_delay_ms
        if stored_digest == digest(route_tree(self.config.route)):
            self.dispatcher.resume(states, now_ms, not_before_ms)
        else:
            self.journal += [records.GroupGone(key) for key in states]
            self.dispatcher.start_anew(now_ms, not_before_ms=not_before_ms)

    def next_due_ms(self) -> int | None:
        return self.timers.next_due_ms()

    def due(self, now_ms: int, most: int | None = None) -> list[Delivery]:
        """Does what is due by now, at most so many things; the attempts to be made."""
        self.timers.run(now_ms, most)
        return self.dispatcher.take_attempts()

    def attempted(
        self, delivery: Delivery, outcome: Outcome, now_ms: int, data: dict[str, str] | None = None
    ) -> None:
        """An attempt is over; `due` gives what follows from it."""
        self.dispatcher.attempted(delivery, outcome, now_ms, data)

    # What can be asked.

    @property
    def groups(self) -> dict[str, Group]:
        return self.dispatcher.groups

    def alert(self, alert_id: int) -> Alert | None:
        entry = self._by_id.get(alert_id)
        return entry.alert if entry else None

    def targets_of(self, entry: Entry) -> tuple[Target, ...]:
        """The groups an alert belongs to, whether or not they exist."""
        return self.dispatcher.targets_of(entry)

    def take_counts(self) -> Counts:
        """What has happened since this was last asked."""
        counts, self.counts = self.counts, Counts()
        return counts

    def snapshot(self) -> list[Record]:
        """The whole state, as the fewest records that give it again."""
        found: list[Record] = [records.Routing(self.dispatcher.digest)]
        found += [entry.alert for entry in self.entries.values()]
        found += self.silences
        found += self.acknowledged.values()
        found += self.began.values()
        found += self.log
        found += [state_of(group) for group in self.groups.values()]
        return found

    # Within.

    def _put(self, sending: Sending, key: Key, known: Entry | None, now_ms: int) -> None:
        alert_id = self._next_id if known is None else known.alert.id
        alert = received_alerts.received(
            sending,
            key,
            alert_id=alert_id,
            now_ms=now_ms,
            resolve_timeout_ms=self.config.resolve_timeout_ms,
        )
        if alert.resolved_at(now_ms):
            self.counts.received_resolved += 1
        else:
            self.counts.received_firing += 1
        known_alert = None if known is None else known.alert
        if known is None:
            alert = _with_fingerprint(alert, fingerprint(dict(key)))
            entry = Entry(alert, dict(key))
            self._limit(entry)
            self._add(entry)
            self.journal.append(alert)
        else:
            entry, old = known, known.alert
            alert = _with_fingerprint(received_alerts.merged(old, alert), old.fingerprint)
            entry.alert = alert
            self.journal.append(_difference(old, alert))
        self.note_begin(known_alert, alert, now_ms)
        self.inhibitor.observe(alert)
        self.dispatcher.observe(entry, now_ms)

    def _add(self, entry: Entry) -> None:
        self._next_id += 1
        self.entries[entry.alert.labels] = entry
        self._by_id[entry.alert.id] = entry
        self._count_name(entry, 1)

    def _limit(self, entry: Entry) -> None:
        limit = self.options.per_alertname_limit
        name = entry.labels.get("alertname", "")
        if 0 < limit <= self._by_name.get(name, 0):
            raise BadAlert(f"there are {limit} alerts {name!r}, and no more are taken")

    def _count_name(self, entry: Entry, change: int) -> None:
        name = entry.labels.get("alertname", "")
        self._by_name[name] = self._by_name.get(name, 0) + change

    def _restore(self, record: Record) -> None:
        match record:
            case Alert():
                entry = self._by_id.setdefault(record.id, Entry(record, dict(record.labels)))
                entry.alert = record
                self._next_id = max(self._next_id, record.id + 1)
            case records.Sent():
                # Unknown where what came before was damaged: its sender sends it again.
                if (known := self._by_id.get(record.id)) is not None:
                    known.alert = _sent_again(known.alert, record)
            case records.Forgotten():
                self._by_id.pop(record.id, None)
            case Silence():
                self.silences.restore(record)
            case records.SilenceGone():
                self.silences.drop(record.id)
            case records.Told():
                self.log.put(record)
            case Acknowledged():
                self.acknowledged[record.labels] = record
            case records.Began():
                self.began[record.labels] = record
            case _:
                pass

    def _collect_alerts(self, now_ms: int) -> None:
        """Forgets alerts that have ended and wait in no group to be told."""
        gone = [
            entry
            for entry in self.entries.values()
            if not entry.groups and entry.alert.resolved_at(now_ms)
        ]
        for entry in gone:
            alert = entry.alert
            del self.entries[alert.labels]
            self._by_id.pop(alert.id, None)
            self._count_name(entry, -1)
            self.inhibitor.forget(alert)
            self.silences.forget_alert(alert.id)
            self.acknowledged.pop(alert.labels, None)
            self.journal.append(records.Forgotten(alert.id))
        self.timers.add(now_ms + self.options.alerts_gc_ms, self._collect_alerts)

    def _watch(self, now_ms: int) -> None:
        """Tells of alerts that should be heard of and are not, and of receivers that take nothing,
        by alerts of its own.
        """
        for watchdog in self.on_call.watchdogs:
            heard_ms = max(
                (
                    entry.alert.updated_ms
                    for entry in self.entries.values()
                    if all_match(watchdog.matchers, entry.labels)
                ),
                default=self._watching_since_ms,
            )
            labels = {**watchdog.labels, "alertname": WATCHDOG_ALERT, "watchdog": watchdog.name}
            known = self.entries.get(received_alerts.label_key(labels))
            if now_ms - heard_ms > watchdog.within_ms:
                silent = {"summary": f"the alert that {watchdog.name} expects is not heard of"}
                told = Sending(labels, silent | dict(watchdog.annotations))
                self.put_alerts([told], now_ms)
            elif known is not None and not known.alert.resolved_at(now_ms):
                self.put_alerts([Sending(labels, known.alert.annotations, ends_ms=now_ms)], now_ms)
        if (fallback := self.on_call.fallback) is not None:
            circuits = self.dispatcher.circuits
            found = failing_receivers.sendings(fallback, circuits, self._known, now_ms)
            self.put_alerts(list(found), now_ms)
        self.timers.add(now_ms + WATCH_MS, self._watch)

    def _known(self, labels: Mapping[str, str]) -> Alert | None:
        entry = self.entries.get(received_alerts.label_key(labels))
        return entry.alert if entry else None

    def _maintain(self, now_ms: int) -> None:
        gone = self.silences.forget_ended(now_ms - self.options.retention_ms)
        self.journal += [records.SilenceGone(silence_id) for silence_id in gone]
        self.log.forget_expired(now_ms)
        flapping = self.on_call.flapping
        since_ms = now_ms if flapping is None else now_ms - flapping.within_ms
        self.began = {key: one for key, one in self.began.items() if one.at_ms[-1] > since_ms}
        self.timers.add(now_ms + self.options.maintenance_ms, self._maintain)


def state_of(group: Group) -> records.GroupState:
    return records.GroupState(group.key, group.next_ms, group.told_ms, group.flushed)


def _with_fingerprint(alert: Alert, fingerprint: int) -> Alert:
    if alert.fingerprint == fingerprint:
        return alert
    return msgspec.structs.replace(alert, fingerprint=fingerprint)


def _with_id(alert: Alert, alert_id: int) -> Alert:
    return alert if alert.id == alert_id else msgspec.structs.replace(alert, id=alert_id)


def _difference(old: Alert, new: Alert) -> Record:
    """The shortest record that makes one of the other."""
    sent = records.Sent(new.id, new.ends_ms, new.updated_ms)
    return sent if _sent_again(old, sent) == new else new


def _sent_again(alert: Alert, sent: records.Sent) -> Alert:
    return msgspec.structs.replace(alert, ends_ms=sent.ends_ms, updated_ms=sent.updated_ms)
