"""Groups as this process takes them up: with the state that the tables have of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from varve.model.window import DAY_MS
from varve.promql.storage import Storage
from varve.query.derived_storage import storage_of
from varve.query.narrow_reader import NarrowReader
from varve.query.reader import Reader
from varve.query.snapshots import GoneError
from varve.query.view import View
from varve.rules.alerts import Sent, State
from varve.rules.group_run import Evaluator, GroupRun, RuleRun
from varve.rules.label_sets import Labels
from varve.rules.rule_file import AlertingRule, Group
from varve.rules.running.changes import Change, changes
from varve.rules.running.claims import Claim, shard_of
from varve.rules.running.notifiers import told_now
from varve.rules.running.recovery import Known
from varve.rules.running.reviews import Provisional
from varve.rules.running.slots import (
    Cursor,
    GroupTiming,
    Slot,
    Timing,
    due,
    first_cursor,
    skip_old,
)
from varve.storage.store import Store
from varve.telemetry.metrics import RulesMetrics

log = logging.getLogger(__name__)


MOST_UNTOLD_MS: Final = 10_000
"""How long notifiers wait for a group that is behind, at most: one that never catches up is told of
as well."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What is read: the newest view, None until there is one, and earlier ones by their versions
    (raises GoneError). max_samples: of one selection. history_ms: of evaluations so long ago or
    longer only alerts that have not ended are looked at.
    """

    store: Store
    newest: Callable[[], View | None]
    at: Callable[[Mapping[str, int]], View]
    max_samples: int = 50_000_000
    history_ms: int = DAY_MS

    def reader(self, view: View) -> NarrowReader:
        return NarrowReader(view, self.max_samples)

    def storage(self, view: View) -> Storage:
        """What rules are evaluated over."""
        return storage_of(Reader(view, max_samples=self.max_samples), self.reader(view))

    def known(self, view: View, now_ms: int) -> Known:
        """What the tables know of alerts and series. Raises OSError or VarveError."""
        return Known.read(self.store, self.reader(view), now_ms, now_ms - self.history_ms)

    def view_of(self, claim: Claim, newest: View) -> View:
        """The snapshot of a claim; the newest if that is gone."""
        try:
            return self.at(newest.provenance.versions_of(claim.token))
        except (GoneError, ValueError) as err:
            log.warning("claim %s is evaluated as of now: %s", claim.id, err)
            return newest


@dataclass(slots=True)
class Owned:
    """A group of this process, and how far it is. provisional: evaluations to be reviewed. fresh:
    it was not evaluated yet, and nobody's state goes on. dropped: what was pending before that.
    untold: by labels what notifiers are told once it is no longer behind, since untold_since_ms.
    """

    run: GroupRun
    timing: GroupTiming
    cursor: Cursor
    provisional: Provisional | None = None
    fresh: bool = False
    dropped: list[Change] = field(default_factory=list)
    untold: dict[Labels, tuple[AlertingRule, Sent]] = field(default_factory=dict)
    untold_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Loader:
    """Makes groups of what is known of them."""

    evaluator: Evaluator
    timing: Timing
    shards: int
    metrics: RulesMetrics
    now_ms: Callable[[], int]

    def to_tell(
        self, owned: Owned, sent: Iterable[tuple[AlertingRule, Sent]], slot: Slot, newest: View
    ) -> list[tuple[AlertingRule, Sent]]:
        """What notifiers are told after an evaluation, of each alert the last that was found:
        nothing while a later slot is due, for MOST_UNTOLD_MS at most. What fired at a slot that is
        evaluated again, or late, may be over.
        """
        now_ms = self.now_ms()
        if not owned.untold:
            owned.untold_since_ms = now_ms
        told = told_now(sent, slot.at_ms, now_ms)
        owned.untold |= {one.labels: (rule, one) for rule, one in told}
        complete_ms = newest.provenance.complete_until_ms
        later = due(slot.after, owned.timing, self.timing, complete_ms=complete_ms, now_ms=now_ms)
        if later is not None and now_ms - owned.untold_since_ms < MOST_UNTOLD_MS:
            return []
        found, owned.untold = list(owned.untold.values()), {}
        return found

    def shard(self, key: str) -> int:
        return shard_of(key, self.shards)

    def timing_of(self, group: Group) -> GroupTiming:
        evaluator = self.evaluator
        return GroupTiming.of(group, evaluator.interval_of(group), evaluator.offset_of(group))

    def again(self, group: Group, known: Known, first: Slot) -> Owned:
        """A group as it was before a slot that is evaluated again."""
        timing = self.timing_of(group)
        run = known.run(group, timing, first.before)
        provisional = known.provisional(group, timing, first.before)
        owned = Owned(run, timing, first.before, provisional)
        if first.fresh:
            self._begin_anew(owned)
        return owned

    def next(self, group: Group, known: Known, cursor: Cursor | None) -> Owned:
        """A group that goes on where somebody stopped; None if nobody has ever evaluated it."""
        timing, now_ms = self.timing_of(group), self.now_ms()
        if cursor is None:
            cursor = first_cursor(timing, now_ms)
            owned = Owned(known.run(group, timing, cursor), timing, cursor)
            self._begin_anew(owned)
            return owned
        skipped, whole, partly = skip_old(cursor, timing, self.timing, now_ms)
        self._count_skipped(group.key, whole, partly)
        # Series that were written for the last slot end at the next one, however late that is.
        run = known.run(group, timing, cursor)
        owned = Owned(run, timing, skipped, known.provisional(group, timing, skipped))
        if whole:
            self._begin_anew(owned)
        return owned

    def skip(self, owned: Owned) -> list[Change]:
        """Leaves out what is too old to make up for. Returns what ends by that."""
        before = owned.cursor
        owned.cursor, whole, partly = skip_old(before, owned.timing, self.timing, self.now_ms())
        self._count_skipped(owned.timing.key, whole, partly)
        if whole:
            self._begin_anew(owned)
        return owned.dropped if whole else []

    def _begin_anew(self, owned: Owned) -> None:
        """Nobody goes on from where a group was: what fires goes on, what was pending has its
        for-state from the series.
        """
        now_ms = self.now_ms()
        owned.fresh, owned.provisional, owned.dropped = True, None, []
        for one in owned.run.rules:
            kept = {k: a for k, a in one.alerts.items() if a.state is not State.PENDING}
            owned.dropped += changes(owned.timing.key, one.alerts, kept, now_ms)
            one.alerts = kept
        owned.run.restore()

    def _count_skipped(self, group: str, whole: int, partly: int) -> None:
        if whole or partly:
            self.metrics.skipped.inc(whole + partly)
            log.warning(
                "%s: %d evaluations are left out, and the recording rules of %d, older than"
                " rules.catch_up_s",
                *(group, whole, partly),
            )

    def ends(self, known: Known, there: Iterable[Group], shards: Collection[int]) -> list[Change]:
        """The ends of alerts whose groups no file has any more."""
        keys = {group.key for group in there}
        now_ms = self.now_ms()
        return [
            change
            for key, alerts in known.alerts().items()
            if key not in keys and self.shard(key) in shards
            for change in changes(key, alerts, {}, now_ms)
        ]


def ends_of(run: GroupRun, go_on: Iterable[RuleRun], at_ms: int) -> list[Change]:
    """The ends of a group's alerts that none of some rules goes on with."""
    kept = {labels for one in go_on for labels in one.alerts}
    return [
        change
        for one in run.rules
        for change in changes(
            run.group.key, {k: a for k, a in one.alerts.items() if k not in kept}, {}, at_ms
        )
    ]
