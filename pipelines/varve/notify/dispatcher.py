"""Groups in time: when each is looked at, who is told what, and what happens if that fails."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from varve.notify import audience, records
from varve.notify.audience import log_key
from varve.notify.circuit import Circuit, backoff_ms
from varve.notify.config.load import NamedIntegration
from varve.notify.groups import Delivery, Entry, Flush, Group, Outcome, Target
from varve.notify.message import Message, ToldAlert, idempotency_key, order
from varve.notify.notification_log import reason_to_tell
from varve.notify.oncall.failing_receivers import RECEIVER_ALERT
from varve.notify.routes import Route, digest, fallback_route, group_key, route_tree
from varve.notify.state import State
from varve.notify.throttling import Throttling

TURN_MS = 500
"""How often a notifier whose turn it is not looks whether another one has told."""


class Dispatcher:
    """Every group of a notifier, and every delivery under way."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._root = route_tree(state.config.route)
        self.digest = digest(self._root)
        self.groups: dict[str, Group] = {}
        self.circuits: dict[str, Circuit] = {}
        self._attempts: list[Delivery] = []
        self._in_flight: dict[str, Delivery] = {}
        self._not_before_ms = 0
        self._throttling = Throttling(
            state, attempt=self._admitted, hold=self._held, look_at=self._look_at
        )

    # Groups.

    def start_anew(self, now_ms: int, not_before_ms: int = 0) -> None:
        """Makes all groups again, by the configuration in force."""
        state = self._state
        state.journal += [records.GroupGone(key) for key in self.groups]
        self._root = route_tree(state.config.route)
        self.digest = digest(self._root)
        state.journal.append(records.Routing(self.digest))
        self._not_before_ms = not_before_ms
        self.groups = {}
        self._attempts = []
        for entry in state.entries.values():
            entry.targets, entry.groups = (), ()
        # The alert that began first opens a group, as it would have.
        for entry in sorted(state.entries.values(), key=lambda e: e.alert.starts_ms):
            self.observe(entry, now_ms, since_ms=0)

    def resume(
        self, states: dict[str, records.GroupState], now_ms: int, not_before_ms: int
    ) -> None:
        """Takes up groups as they were stored."""
        self._not_before_ms = not_before_ms
        for entry in self._state.entries.values():
            for route, labels, key in self.targets_of(entry):
                state, alert = states.get(key), entry.alert
                if state is None:
                    if not alert.resolved_at(now_ms):  # its group was in a part that is damaged
                        self.observe(entry, now_ms)
                    continue
                if alert.ends_ms <= state.told_ms and alert.updated_ms < state.told_ms:
                    continue  # its end was told, and it left
                group = self.groups.get(key)
                if group is None:
                    group = Group(
                        route, labels, key, state.next_ms, state.told_ms, flushed=state.flushed
                    )
                    self.groups[key] = group
                    self._schedule(group)
                self._join(group, entry)
        gone = states.keys() - self.groups.keys()
        self._state.journal += [records.GroupGone(key) for key in sorted(gone)]

    def observe(self, entry: Entry, now_ms: int, since_ms: int | None = None) -> None:
        """An alert came, or came again: it is in its groups from now on.

        since_ms: what had ended before then is not in a group that this opens; now by default.
        """
        for route, labels, key in self.targets_of(entry):
            group = self.groups.get(key)
            if group is None:
                waited = entry.alert.starts_ms + route.group_wait_ms < now_ms
                next_ms = now_ms if waited else now_ms + route.group_wait_ms
                began_ms = now_ms if since_ms is None else since_ms
                group = Group(route, labels, key, next_ms, began_ms)
                self.groups[key] = group
                self._store(group)
                self._schedule(group)
            self._join(group, entry)

    def targets_of(self, entry: Entry) -> tuple[Target, ...]:
        if not entry.targets:
            entry.targets = tuple(
                (route, labels := route.group_labels(entry.labels), group_key(route, labels))
                for route in self._routes_of(entry)
            )
        return entry.targets

    def _routes_of(self, entry: Entry) -> list[Route]:
        """What tells of a receiver that fails goes another way than what that receiver is told."""
        fallback = self._state.on_call.fallback
        if fallback is not None and entry.labels.get("alertname") == RECEIVER_ALERT:
            return [fallback_route(fallback.receiver)]
        return self._root.matching(entry.labels)

    def _join(self, group: Group, entry: Entry) -> None:
        group.members[entry.alert.id] = entry
        if group.key not in entry.groups:
            entry.groups += (group.key,)

    def _schedule(self, group: Group) -> None:
        group.wake += 1
        at_ms = max(group.next_ms, self._not_before_ms)
        self._state.timers.add(at_ms, partial(self._look, group, group.wake))

    def _store(self, group: Group) -> None:
        self._state.journal.append(
            records.GroupState(group.key, group.next_ms, group.told_ms, group.flushed)
        )

    # Flushes.

    def _look(self, group: Group, wake: int, now_ms: int) -> None:
        if group.wake != wake or self.groups.get(group.key) is not group or group.flush:
            return
        told = [
            ToldAlert(entry.alert, firing=self._state.is_told_firing(entry.alert, now_ms))
            for entry in group.members.values()
        ]
        heard = audience.not_muted(self._state, group, told, now_ms)
        waited_ms = audience.waited_ms(self._state, heard, now_ms)
        integrations = audience.integrations(self._state, group, heard, waited_ms, now_ms)
        keys = [log_key(integration, group) for integration in integrations]
        if any(key in self._in_flight for key in keys):
            group.blocked = True  # looked at again once that is over
            return
        group.next_ms = now_ms + group.route.group_interval_ms
        if waited_ms is not None:
            step_ms = self._state.on_call.next_step_ms(group.route.receiver, waited_ms)
            if step_ms is not None:
                group.next_ms = min(group.next_ms, now_ms + step_ms)
        resolved = [(group.members[t.alert.id], t.alert) for t in told if not t.firing]
        flush = group.flush = Flush(group, now_ms, group.next_ms, resolved)
        flush.open = 1  # until every integration was begun
        if heard:
            for integration, key in zip(integrations, keys, strict=True):
                self._take_turn(flush, integration, key, heard, now_ms)
        flush.open -= 1
        self._end_if_over(flush)

    def _take_turn(
        self,
        flush: Flush,
        integration: NamedIntegration,
        key: str,
        told: list[ToldAlert],
        now_ms: int,
    ) -> None:
        """Tells if it is this notifier's turn; else looks again whether another one has."""
        wait_ms = self._state.turns.wait_ms(now_ms)
        waits = wait_ms is None or now_ms < flush.at_ms + wait_ms
        if not waits or not self._reason(flush, integration, key, told):
            self._tell(flush, integration, key, told, now_ms)
            return
        again_ms = now_ms + TURN_MS
        if again_ms >= flush.deadline_ms:
            flush.failed = True
            return
        flush.open += 1

        def look_again(at_ms: int) -> None:
            if self.groups.get(flush.group.key) is flush.group:
                self._take_turn(flush, integration, key, told, at_ms)
            flush.open -= 1
            self._end_if_over(flush)

        self._state.timers.add(again_ms, look_again)

    def _reason(
        self, flush: Flush, integration: NamedIntegration, key: str, told: list[ToldAlert]
    ) -> str:
        return reason_to_tell(
            self._state.log.get(key, flush.at_ms),
            {t.alert.fingerprint for t in told if t.firing},
            {t.alert.fingerprint for t in told if not t.firing},
            send_resolved=integration.config.send_resolved,
            repeat_after_ms=flush.group.route.repeat_interval_ms,
            now_ms=flush.at_ms,
        )

    def _tell(
        self,
        flush: Flush,
        integration: NamedIntegration,
        key: str,
        told: list[ToldAlert],
        now_ms: int,
    ) -> None:
        reason = self._reason(flush, integration, key, told)
        if not reason:
            return
        state, group = self._state, flush.group
        firing = {t.alert.fingerprint for t in told if t.firing}
        resolved = {t.alert.fingerprint for t in told if not t.firing}
        send_resolved = integration.config.send_resolved
        last = state.log.get(key, flush.at_ms)
        shown = sorted((t for t in told if send_resolved or t.firing), key=order)
        message = Message(
            integration,
            group.key,
            group.labels,
            group.route.labels,
            tuple(shown),
            flush.at_ms,
            last.data if last else {},
        )
        delivery = Delivery(
            flush,
            message,
            key,
            idempotency_key(key, firing, resolved, last.at_ms if last else 0),
            tuple(sorted(firing)),
            tuple(sorted(resolved)),
            reason,
        )
        flush.open += 1
        if shown:
            self._attempt(delivery, delivery.wake, now_ms)
        else:
            self._over(delivery, now_ms, Outcome.TAKEN, None)

    def _end_if_over(self, flush: Flush) -> None:
        group = flush.group
        if flush.open or group.flush is not flush:  # the latter of a digest
            return
        group.flush = None
        if self.groups.get(group.key) is not group:
            return
        group.flushed = True
        if not flush.failed:
            group.told_ms = flush.at_ms
            for entry, alert in flush.resolved:
                if entry.alert is alert:  # not sent again since
                    group.members.pop(alert.id, None)
                    entry.groups = tuple(key for key in entry.groups if key != group.key)
        if not group.members:
            del self.groups[group.key]
            self._state.journal.append(records.GroupGone(group.key))
            return
        self._store(group)
        self._schedule(group)

    # Attempts.

    def take_attempts(self) -> list[Delivery]:
        taken, self._attempts = self._attempts, []
        for delivery in taken:
            for one in (delivery, *delivery.parts):
                self._in_flight[one.log_key] = one
        return taken

    def attempted(
        self, delivery: Delivery, outcome: Outcome, now_ms: int, data: dict[str, str] | None
    ) -> None:
        delivery.in_flight = False
        for one in (delivery, *delivery.parts):
            self._in_flight.pop(one.log_key, None)
        circuit = self._circuit(delivery)
        match outcome:
            case Outcome.TAKEN:
                circuit.taken(now_ms)
            case Outcome.REFUSED:
                circuit.refused(now_ms)
            case Outcome.FAILED:
                circuit.failed(now_ms)
        group = delivery.flush.group
        current = self.groups.get(group.key)
        if current is not group and current is not None and current.blocked:
            current.blocked = False
            self._schedule(current)
        if outcome is Outcome.FAILED and current is group:
            delivery.attempts += 1
            wait_ms = backoff_ms(delivery.attempts, self._state.chance)
            self._wait(delivery, wait_ms, now_ms)
        else:
            self._over(delivery, now_ms, outcome, data)
            self._end_if_over(delivery.flush)

    def _attempt(self, delivery: Delivery, wake: int, now_ms: int) -> None:
        if delivery.over or delivery.wake != wake:
            return
        if self.groups.get(delivery.flush.group.key) is not delivery.flush.group:
            delivery.over = True  # another configuration is in force
            return
        if self._throttling.bounds(delivery):
            self._throttling.take(delivery, now_ms)
            return
        circuit = self._circuit(delivery)
        if wait_ms := circuit.wait_ms(now_ms):
            self._wait(delivery, wait_ms, now_ms)
            return
        circuit.attempted()
        delivery.in_flight = True
        self._attempts.append(delivery)

    def _wait(self, delivery: Delivery, wait_ms: int, now_ms: int) -> None:
        """Tries again after a while, unless the next look at the group comes first."""
        if now_ms + wait_ms >= delivery.deadline_ms:
            self._over(delivery, now_ms, Outcome.FAILED, None)
            self._end_if_over(delivery.flush)
            return
        delivery.wake += 1
        self._state.timers.add(now_ms + wait_ms, partial(self._attempt, delivery, delivery.wake))

    def _over(
        self, delivery: Delivery, now_ms: int, outcome: Outcome, data: dict[str, str] | None
    ) -> None:
        delivery.over = True
        if delivery.parts:
            for part in delivery.parts:
                self._over(part, now_ms, outcome, None)
                self._end_if_over(part.flush)
            return
        flush = delivery.flush
        flush.open -= 1
        if outcome is not Outcome.TAKEN:
            flush.failed = True
            return
        route, retention_ms = flush.group.route, self._state.options.retention_ms
        kept_ms = min(retention_ms, 2 * max(route.repeat_interval_ms, route.group_interval_ms))
        told = records.Told(
            delivery.log_key,
            delivery.firing,
            delivery.resolved,
            now_ms,
            now_ms + kept_ms,
            data if data is not None else delivery.message.data,
        )
        self._state.log.put(told)
        self._state.journal.append(told)
        self._throttling.taken(delivery, now_ms)

    # Throttled receivers.

    def _admitted(self, delivery: Delivery, now_ms: int) -> None:
        self._attempt(delivery, delivery.wake, now_ms)

    def _held(self, delivery: Delivery, now_ms: int) -> None:
        self._over(delivery, now_ms, Outcome.FAILED, None)
        self._end_if_over(delivery.flush)

    def _look_at(self, keys: Iterable[str], now_ms: int) -> None:
        for key in keys:
            group = self.groups.get(key)
            if group is not None and group.flush is None:
                group.next_ms = now_ms
                self._schedule(group)

    def _circuit(self, delivery: Delivery) -> Circuit:
        return self.circuits.setdefault(delivery.message.integration.key, Circuit())
