"""Evaluates the groups of this process's shards, each slot once: the loop of `varve serve rules`.

A tick: what others have committed, shards taken and left, outcomes noted that Kafka has
acknowledged, then one claim of all slots that are due, and their evaluation. Whatever fails leaves
claims open; the groups are then loaded anew, and open claims evaluated again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Final, Protocol

from varve.model.errors import Conflict
from varve.query.view import View
from varve.rules.alerts import Sent, State
from varve.rules.group_run import GroupRun, Part
from varve.rules.instant import Sample
from varve.rules.rule_file import AlertingRule, Group
from varve.rules.rule_set import RuleSet
from varve.rules.running.changes import Change, changes
from varve.rules.running.claims import Claim, ClaimLog
from varve.rules.running.loading import Loader, Owned, Tables, ends_of
from varve.rules.running.outcomes import Outcome, OutcomeSender, claims_of, rows_of
from varve.rules.running.recovery import written_before
from varve.rules.running.reviews import Provisional
from varve.rules.running.slots import Slot, due
from varve.rules.running.written_series import Batch, WrittenSeries
from varve.telemetry.metrics import RulesMetrics

log = logging.getLogger(__name__)

MOST_OPEN: Final = 1_000
"""Claims whose outcome Kafka has not acknowledged; with more nothing new is evaluated."""

_STORED_MARGIN_MS: Final = 10_000
"""How far clocks of brokers and of this machine may differ: what rules wrote is kept in memory for
so long after the tables should have it."""


class Tells(Protocol):
    """Who is told of alerts."""

    def put(self, shard: int, sent: Sequence[tuple[AlertingRule, Sent]]) -> None:
        """Takes what was found of a shard's alerts. Does not block."""
        ...

    def keep(self, shards: Collection[int]) -> None:
        """Forgets what was found of all other shards."""
        ...


@dataclass(slots=True)
class Runner:
    """One thread calls `tick` and `stop`; `groups` may be read, and `update` called, by any."""

    tables: Tables
    claims: ClaimLog
    loader: Loader
    sender: OutcomeSender
    tells: Tells
    metrics: RulesMetrics
    now_ms: Callable[[], int]
    _all: tuple[Group, ...] = ()
    _new: tuple[Group, ...] | None = None
    _rules: RuleSet = field(default_factory=RuleSet)
    _owned: dict[str, Owned] = field(default_factory=dict)
    _loaded: set[int] = field(default_factory=set)
    _asked_ms: int | None = None
    _written: WrittenSeries = field(default_factory=WrittenSeries)
    _outcomes: list[Outcome] = field(default_factory=list)
    waiting: str = "starting"
    """Why rules are not evaluated yet; "" once they are."""

    @property
    def groups(self) -> list[GroupRun]:
        """Those of this process, in the order of their files."""
        return list(self._rules)

    def update(self, groups: Sequence[Group]) -> None:
        """Takes other rules at the next tick."""
        self._new = tuple(groups)

    def tick(self) -> bool:
        """Does what is due. Returns whether there may be more to do at once.

        Raises OSError or another error where the tables cannot be reached: call `unload`, and
        again after a while.
        """
        if self.sender.error is not None:
            raise self.sender.error
        try:
            return self._tick()
        except Conflict as err:
            self.metrics.conflicts.inc()
            log.info("another process was faster: %s", err)
            return True  # the next look tells which shards are lost

    def unload(self) -> None:
        """Forgets everything that is not in the tables, to take it from there again."""
        self._rules, self._owned, self._loaded = RuleSet(), {}, set()
        self._written, self._outcomes = WrittenSeries(), []

    def stop(self) -> None:
        """Leaves all shards to others, once `sender` has been stopped."""
        self.claims.look()
        self._finish(final=True)

    # A tick

    def _tick(self) -> bool:
        self.claims.look()
        self.tells.keep(self.claims.mine())
        if lost := self._loaded - self.claims.mine():
            log.info("shards %s were taken by others", sorted(lost))
            self._drop(lost)
        view = self.tables.newest()
        if view is None:
            self.waiting = "the tables are not open yet"
            return False
        self._take_new_rules(view)
        self._finish()
        self._share()
        slots: Sequence[Slot] = ()
        if loaded := self._load(view):
            self.waiting = ""
            if len(self._outcomes) < MOST_OPEN:
                slots = self._due(view)
        if slots:
            self._evaluate(slots, view)
        elif self.claims.is_silent:
            self.claims.announce()  # whoever waits for the tables or for Kafka lives
        if loaded:
            self._note(view)
        return bool(slots)

    def _take_new_rules(self, view: View) -> None:
        if self._new is None:
            return
        groups, self._new = self._new, None
        self._all = groups
        if self._loaded:
            self._replace_rules(view)

    def _replace_rules(self, view: View) -> None:
        """Other rules in the shards that are loaded: states go on, what is gone ends."""
        known = dict(self._owned)
        read = self.tables.known(view, self.now_ms())
        loaded: dict[str, Owned] = {}

        def make(group: Group) -> GroupRun:
            cursor = self.claims.cursor(group.key)
            loaded[group.key] = self.loader.next(group, read, cursor)
            return loaded[group.key].run

        now_ms = self.now_ms()
        gone = self._rules.update(self._groups_of(self._loaded), make)
        found = [change for run in gone for change in ends_of(run, (), now_ms)]
        self._owned = {}
        for run in self._rules:
            key = run.group.key
            if key in loaded:
                self._owned[key] = loaded[key]
                found += loaded[key].dropped
                continue
            self._owned[key] = before = known[key]
            if before.run is not run:
                found += ends_of(before.run, run.rules, now_ms)
                before.run, before.timing = run, self.loader.timing_of(run.group)
                before.provisional = None
        self._put("", self._rules.ends(now_ms), found)

    def _share(self) -> None:
        """Leaves shards to processes that are to have them, takes those that are free."""
        if leave := self.claims.to_release():
            # What is under way of them stays open, for whoever takes them.
            self._drop(leave)
            self.claims.release(leave, None, ())
            log.info("shards %s are left to others", sorted(leave))
        if take := self.claims.to_take():
            self.claims.take(take)
            log.info("shards %s are this process's", sorted(take))
        self.tells.keep(self.claims.mine())

    def _drop(self, shards: Collection[int]) -> None:
        """Forgets groups of shards, with the outcomes of theirs that are not noted yet."""
        keys = {key for key in self._owned if self.loader.shard(key) in shards}
        self._rules.leave(keys)
        self._owned = {key: one for key, one in self._owned.items() if key not in keys}
        self._loaded -= set(shards)
        for outcome in self._outcomes:
            outcome.changes = [
                change
                for change in outcome.changes
                if self.loader.shard(change.group) not in shards
            ]

    # Loading

    def _load(self, view: View) -> bool:
        """Takes up the groups of new shards; False if that has to wait for the tables."""
        new = self.claims.mine() - self._loaded
        if not new:
            return True
        shards = [self.claims.shards[number] for number in new]
        last_ms = max(shard.at_ms for shard in shards if shard.number is not None)
        began = any(self.claims.cursor(group.key) for group in self._groups_of(new))
        if began and not self._has_what_was_written(view, last_ms):
            self.waiting = "the tables do not have yet what was evaluated before"
            return False
        self._asked_ms = None
        open_claims = self._open(new)
        first: dict[str, Slot] = {}
        for _, slots in open_claims:
            for slot in slots:
                first.setdefault(slot.group, slot)
        known = self.tables.known(view, self.now_ms())
        for group in self._groups_of(new):
            if group.key in first:
                self._owned[group.key] = self.loader.again(group, known, first[group.key])
            else:
                cursor = self.claims.cursor(group.key)
                self._owned[group.key] = self.loader.next(group, known, cursor)
        self._loaded |= new
        self._rules.update(self._groups_of(self._loaded), lambda group: self._owned[group.key].run)
        ends = self.loader.ends(known, self._all, new)
        ends += [
            change
            for key, owned in self._owned.items()
            if self.loader.shard(key) in new
            for change in owned.dropped
        ]
        if ends:
            self._put("", (), ends)
        if open_claims:
            self._repeat(open_claims, view)
        return True

    def _open(self, shards: Collection[int]) -> list[tuple[Claim, list[Slot]]]:
        """Claims that are open in shards, in their order, with their slots that nobody has noted
        the outcome of: another process may have finished a claim in some shards and not in others.
        """
        claims: dict[str, Claim] = {}
        slots: dict[str, list[Slot]] = {}
        for number in shards:
            for claim in self.claims.shards[number].open:
                claims[claim.id] = claim
                slots.setdefault(claim.id, []).extend(self.claims.slots_of(claim, number))
        ordered = sorted(claims.values(), key=lambda claim: (claim.at_ms, claim.number))
        return [(claim, slots[claim.id]) for claim in ordered]

    def _has_what_was_written(self, view: View, last_ms: int) -> bool:
        """Whether the tables have all that was sent before the last commit, or were waited for
        long enough.
        """
        now_ms = self.now_ms()
        self._asked_ms = now_ms if self._asked_ms is None else self._asked_ms
        complete_ms = view.provenance.complete_until_ms
        if complete_ms is not None and complete_ms >= last_ms:
            return True
        return now_ms - self._asked_ms >= self.loader.timing.wait_ms

    def _repeat(self, claims: Sequence[tuple[Claim, list[Slot]]], newest: View) -> None:
        """Evaluates slots of open claims again, each as of its claim's snapshot."""
        views = [self.tables.view_of(claim, newest) for claim, _ in claims]
        complete = [view.provenance.complete_until_ms or 0 for view in views]
        since_ms = min(complete) - self.loader.timing.wait_ms - _STORED_MARGIN_MS
        all_slots = [slot for _, slots in claims for slot in slots]
        timings = [(group, self.loader.timing_of(group)) for group in self._all]
        before = written_before(self.tables.reader(newest), timings, all_slots, since_ms)
        self._written.write(Batch(before, self.now_ms()))
        for (claim, slots), view in zip(claims, views, strict=True):
            log.info("claim %s: %d slots are evaluated again", claim.id, len(slots))
            self.metrics.repeated.inc()
            mine = [slot for slot in slots if slot.group in self._owned]
            self._run(claim.id, mine, view, claim.token, newest)

    # Evaluating

    def _due(self, view: View) -> list[Slot]:
        now_ms, found = self.now_ms(), []
        for owned in self._owned.values():
            if dropped := self.loader.skip(owned):
                self._put("", (), dropped)
            slot = due(
                owned.cursor,
                owned.timing,
                self.loader.timing,
                complete_ms=view.provenance.complete_until_ms,
                now_ms=now_ms,
            )
            if slot is not None:
                found.append(replace(slot, fresh=owned.fresh))
        return found

    def _evaluate(self, slots: Sequence[Slot], view: View) -> None:
        with self.metrics.round.time():
            over = self._acknowledged()
            claim = self.claims.claim(
                self._loaded, slots, view.provenance.token, rows=rows_of(over), done=claims_of(over)
            )
            del self._outcomes[: len(over)]
            self._run(claim.id, slots, view, claim.token, view)

    def _run(self, claim: str, slots: Sequence[Slot], view: View, token: str, newest: View) -> None:
        samples: list[Sample] = []
        found: list[Change] = []
        for slot in slots:
            written, changed = self._run_slot(slot, view, newest)
            samples += written
            found += [
                replace(change, incomplete=slot.incomplete, late=slot.late, token=token)
                for change in changed
            ]
        self._put(claim, samples, found)

    def _run_slot(
        self, slot: Slot, view: View, newest: View
    ) -> tuple[Sequence[Sample], list[Change]]:
        """Evaluates a slot. Returns what it writes, and what it changes or finds in a review."""
        owned = self._owned[slot.group]
        run, reviewing = owned.run, None
        if slot.part is Part.RECORDING and owned.provisional is not None:
            reviewing = owned.provisional.would_be
        before = {place: one.alerts for place, one in enumerate(run.rules)}
        series = self._written.over(self.tables.storage(view))
        given = run.evaluate(
            series, self.loader.evaluator, slot.at_ms, part=slot.part, review=reviewing
        )
        to_tell = self.loader.to_tell(owned, given.sent, slot, newest)
        self.tells.put(self.loader.shard(slot.group), to_tell)
        found: list[Change] = []
        if slot.part is not Part.RECORDING:
            found = [
                change
                for place, one in enumerate(run.rules)
                for change in changes(slot.group, before[place], one.alerts, slot.at_ms)
            ]
        elif owned.provisional is not None:
            found = owned.provisional.reviewed(slot.group, slot.at_ms, given.reviewed)
            for change in found:
                self.metrics.reviews.labels(change.review).inc()
        if slot.part is Part.ALERTING:
            alerting = {p: a for p, a in before.items() if Part.ALERTING.has(run.rules[p].rule)}
            if owned.provisional is None:
                owned.provisional = Provisional(alerting)
            after = {place: run.rules[place].alerts for place in alerting}
            owned.provisional.add(slot.at_ms, alerting, after)
        elif owned.provisional is not None and owned.provisional.is_done:
            owned.provisional = None
        owned.cursor, owned.fresh = slot.after, False
        self._count(slot, run)
        return given.samples, found

    def _count(self, slot: Slot, run: GroupRun) -> None:
        self.metrics.slots.labels(slot.part.value).inc()
        self.metrics.late.inc(int(slot.late))
        self.metrics.delay.observe(max(0, self.now_ms() - slot.at_ms) / 1000)
        failed = sum(1 for one in run.rules if one.health == "err" and slot.part.has(one.rule))
        self.metrics.failures.inc(failed)

    # Outcomes

    def _put(self, claim: str, samples: Sequence[Sample], found: list[Change]) -> None:
        outcome = Outcome(claim, Batch(samples), found)
        self._written.write(outcome.batch)
        self._outcomes.append(outcome)
        self.sender.put(outcome)

    def _acknowledged(self) -> list[Outcome]:
        """The outcomes that Kafka has acknowledged, up to the first that it has not."""
        return list(takewhile(lambda outcome: outcome.sent_ms is not None, self._outcomes))

    def _finish(self, *, final: bool = False) -> None:
        """Writes what has been acknowledged into the table, if it changes anything."""
        over = self._acknowledged()
        if not final and not any(outcome.changes for outcome in over):
            return
        rows, done = rows_of(over), claims_of(over)
        if final:
            self.claims.release(self.claims.mine(), rows, done)
        else:
            self.claims.finish(self._loaded, rows, done)
        # Others may have been acknowledged meanwhile.
        del self._outcomes[: len(over)]

    def _note(self, view: View) -> None:
        """What the metrics say; and memory is given back."""
        complete_ms = view.provenance.complete_until_ms
        if complete_ms is not None:
            self._written.forget(complete_ms - _STORED_MARGIN_MS)
        self.metrics.groups.set(len(self._owned))
        self.metrics.shards.set(len(self._loaded))
        self.metrics.unacknowledged.set(len(self._outcomes))
        self.metrics.overlaid.set(self._written.size)
        firing = [
            alert
            for run in self._rules
            for one in run.rules
            for alert in one.alerts.values()
            if alert.state is State.FIRING
        ]
        self.metrics.firing.set(len(firing))
        if self._owned:
            behind_ms = min(owned.cursor.evaluated_ms for owned in self._owned.values())
            self.metrics.evaluated.set(behind_ms / 1000)

    def _groups_of(self, shards: Collection[int]) -> list[Group]:
        return [group for group in self._all if self.loader.shard(group.key) in shards]
