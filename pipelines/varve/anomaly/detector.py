"""Judges the minutes of rollup_1m as they close or are repaired, and keeps the episodes they make.

Everything is planned from the tables. A commit to anomalies carries the deviations, how far minutes
are judged (`frontier:anomalies`), up to which version of rollup_1m repairs are in it
(`source:anomalies`), and names the file of the events that follow from it, which is committed to
episodes right after: a start makes up for one that a crash has kept back. Then events are sent and
`told:episodes` moves: what was sent before a crash is sent again, with the same identities.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varve.anomaly.baseline_job import newest_rows
from varve.anomaly.episode_book import ANOMALIES, EpisodeBook, by_series
from varve.anomaly.episode_rows import (
    EPISODES,
    alert_events,
    event_rows,
    messages,
    named_series,
)
from varve.anomaly.episodes import Event
from varve.anomaly.judge import SCORES
from varve.anomaly.judge_task import JudgeTask, Subjects
from varve.anomaly.minute_values import Ints, judged_kinds
from varve.anomaly.rules import Rules
from varve.anomaly.silence import with_following
from varve.model.alert_event import AlertEvent
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.clock import Clock
from varve.model.errors import NeedsOperator
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, MINUTE_MS, TIERS, Window
from varve.rollups.late_rows import log_since
from varve.rollups.task import touched_windows
from varve.rollups.window_keys import unique_keys
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile, adopted, write_file
from varve.storage.log import entries
from varve.storage.snapshot import Follower, Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

TOLD = "told:episodes"
"""On episodes: the number of the last commit to anomalies whose events have been sent."""

EVENTS_KEY = "events"
"""Metadata of a commit to anomalies: the file of its events, as JSON; absent if there are none."""

LOOKBACK_MS = 3 * DAY_MS
"""How far back the first start judges: long enough to show what has just happened."""

AT_ONCE_MINUTES = 4_000_000
"""Minutes of series that one step judges at most."""

_TIER = TIERS[0]

Judge = Callable[[Sequence[JudgeTask]], Sequence[pa.Table]]
"""Runs tasks (varve.anomaly.judge), here or on a cluster; their results in any order."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one step did, for logs and metrics."""

    until_ms: int
    deviations: int
    events: int
    repaired: int
    """Windows that were judged again."""


class Detector:
    """The detector of one deployment. Not safe to share between threads."""

    def __init__(
        self,
        store: Store,
        rules: Callable[[], Rules],
        judge: Judge,
        clock: Clock,
        *,
        parts: int = 1,
        calendar: Calendar = NO_HOLIDAYS,
    ) -> None:
        """rules: tells what is in force whenever it is called. parts: tasks that large steps are
        cut into. calendar: that baselines are computed by. Raises NeedsOperator if the tables do
        not exist.
        """
        self._store, self._rules, self._judge, self._clock = store, rules, judge, clock
        self._parts, self._calendar = parts, calendar
        self._source = Follower(store, _TIER.table)
        self._series = Follower(store, "series")
        self._anomalies = Table(store, ANOMALIES)
        self._episodes = Table(store, EPISODES)
        self._book: EpisodeBook | None = None
        self._subjects: tuple[int, Rules, Subjects] | None = None
        self._turn: int | None = None

    @property
    def frontier_ms(self) -> int | None:
        """Up to which minutes are judged."""
        return self._anomalies.position(positions.frontier(ANOMALIES))

    def step(self) -> Judged | None:
        """Judges the next minutes, with the repairs if these are the last; None if there are none.

        Raises Conflict if a rival was here, after which the next step begins anew; OSError if the
        storage fails.
        """
        self._anomalies.refresh()
        self._episodes.refresh()
        if self._book is None or self._turn != self._anomalies.position(_TURN):
            self._turn = self._anomalies.position(_TURN)
            self._finish()
            self._book = EpisodeBook(self._store, self.frontier_ms, self._rules())
        source = self._source.refresh()
        reached = self._source.position(positions.frontier(_TIER.name))
        baselines = Table(self._store, "baselines", files=True)
        if reached is None or not baselines.live_files():
            return None
        subjects = self._subjects_now()
        held = self._anomalies.position(positions.frontier(ANOMALIES))
        begin = reached - LOOKBACK_MS if held is None else held
        end = min(reached, begin + self._minutes_at_once(len(subjects.ids)) * MINUTE_MS)
        is_last = end == reached
        marked = self._anomalies.position(positions.source(ANOMALIES))
        keys = self._repaired(source, marked, begin) if is_last and marked is not None else _NONE
        if end <= begin and not len(keys):
            return None
        rules = self._rules()
        window = Window(begin, end) if begin < end else None
        found = self._scores(source, baselines.version, window, subjects, rules, None)
        fixed = self._changed(self._fixed(source, baselines.version, keys, subjects, rules))
        rows = self._rows(source.version, pa.concat_tables([found, fixed]), rules)
        events = self._events(self._book, found, fixed, end, rules)
        steps = {
            positions.frontier(ANOMALIES): Step(held, end),
            _TURN: Step(self._turn, 0 if self._turn is None else self._turn + 1),
        }
        if marked is None or is_last:
            version = source.version if marked is None else max(marked, source.version)
            steps[positions.source(ANOMALIES)] = Step(marked, version)
        self._commit(rows, events, steps)
        return Judged(end, found.num_rows, len(events), len(keys))

    def tell(
        self,
        send: Callable[[list[tuple[bytes, bytes]]], None],
        send_alerts: Callable[[list[AlertEvent]], None],
    ) -> int:
        """Sends the events that have not been sent yet, then notes that; how many.

        Raises what the arguments raise: the next call sends them again.
        """
        told, newest = self._episodes.position(TOLD), self._episodes.position(_EVENTS)
        if newest is None or told == newest:
            return 0
        rows = snapshot(self._store, EPISODES).scan(Bounds())
        rows = rows.filter(pc.greater(rows["turn"], -1 if told is None else told))
        unsent = sorted(rows.to_pylist(), key=lambda row: (row["turn"], row["decided_at"]))
        named = named_series(self._store, {row["series_id"] for row in unsent})
        send(messages(unsent, named))
        send_alerts(alert_events(unsent, named))
        commit(self._episodes, [], transactions={TOLD: Step(told, newest)})
        return len(unsent)

    def _finish(self) -> None:
        """Commits the events that a crash has kept back."""
        owed = self._anomalies.position(_EVENTS)
        if owed is None or owed == self._episodes.position(_EVENTS):
            return
        for version in range(self._anomalies.version, -1, -1):
            (entry,) = entries(self._store, ANOMALIES, version - 1, version)
            if entry.positions.get(_EVENTS) == owed:
                self._note(NewFile.from_json(entry.metadata[EVENTS_KEY]), owed)
                return
        raise NeedsOperator(
            f"{self._store.uri(ANOMALIES)}: the commit of turn {owed} is no longer in its log, and"
            " its events are not in episodes: restore the table"
        )

    def _commit(self, rows: pa.Table, events: Sequence[Event], steps: Mapping[str, Step]) -> None:
        turn = steps[_TURN].new
        metadata: dict[str, Any] = {"deviations": rows.num_rows}
        owed = None
        if events:
            owed = write_file(self._store, EPISODES, event_rows(events, turn))
            metadata[EVENTS_KEY] = owed.to_json()
            steps = {**steps, _EVENTS: Step(self._anomalies.position(_EVENTS), turn)}
        files = [write_file(self._store, ANOMALIES, rows)] if rows.num_rows else []
        try:
            commit(self._anomalies, files, transactions=steps, metadata=metadata)
        except BaseException:
            self._book = None
            raise
        self._turn = turn
        if owed is not None:
            self._note(owed, turn)

    def _note(self, owed: NewFile, turn: int) -> None:
        """Commits the events of a turn to episodes."""
        step = Step(self._episodes.position(_EVENTS), turn)
        commit(self._episodes, [adopted(self._store, owed)], transactions={_EVENTS: step})

    def _subjects_now(self) -> Subjects:
        seen, rules = self._series.refresh(), self._rules()
        held = self._subjects
        if held is None or held[0] != seen.version or held[1] is not rules:
            rows = seen.scan(Bounds(), ("series_id", "metric", "tags", "type"))
            ids, is_rate = judged_kinds(rows)
            numbers = rules.select(rows)
            order = np.argsort(rows["series_id"].to_numpy(), kind="stable")
            at = order[np.searchsorted(rows["series_id"].to_numpy()[order], ids)]
            subjects = Subjects(ids, is_rate, numbers[at])
            held = self._subjects = (seen.version, rules, subjects)
        return held[2]

    def _minutes_at_once(self, series: int) -> int:
        return max(1, min(6 * 60, AT_ONCE_MINUTES // max(series, 1)))

    def _repaired(self, source: Snapshot, after: int, until_ms: int) -> Ints:
        """Judged windows that rows which came since a version are about."""
        _, history = log_since(self._store, source.table, after, source.version)
        files = [file for entry in history for file in entry.adds]
        try:
            keys = touched_windows(source, files, _TIER, until_ms)
        except FileNotFoundError:
            live = {file.path for file in source.files}
            log.warning("repairs in files that were merged since are not judged again")
            keys = touched_windows(
                source, [file for file in files if file.path in live], _TIER, until_ms
            )
        # The rate of the next minute begins with the last sample of this one.
        keys = unique_keys(np.concatenate([keys, keys + np.array([0, MINUTE_MS])]))
        keys = with_following(keys, self._subjects_now(), self._rules().all)
        recent = (keys[:, 1] > until_ms - LOOKBACK_MS) & (keys[:, 1] <= until_ms)
        return np.ascontiguousarray(keys[recent])

    def _scores(
        self,
        source: Snapshot,
        baselines: int,
        window: Window | None,
        subjects: Subjects,
        rules: Rules,
        keys: Ints | None,
    ) -> pa.Table:
        if window is None or window.end_ms <= window.start_ms or not len(subjects.ids):
            return SCORES.empty_table()
        minutes = (window.end_ms - window.start_ms) // MINUTE_MS * len(subjects.ids)
        parts = max(1, min(self._parts, minutes * 4 // AT_ONCE_MINUTES))
        tasks = []
        for ids in np.array_split(subjects.ids, parts):
            if len(ids):
                part = subjects.within(int(ids[0]), int(ids[-1]))
                tasks.append(
                    JudgeTask(
                        *(self._store, source.version, baselines, window, part, rules.all, keys),
                        self._calendar,
                    )
                )
        return pa.concat_tables(self._judge(tasks))

    def _fixed(
        self, source: Snapshot, baselines: int, keys: Ints, subjects: Subjects, rules: Rules
    ) -> pa.Table:
        """Scores of repaired windows: of those that are far off, or were."""
        if not len(keys):
            return SCORES.empty_table()
        window = Window(int(keys[:, 1].min()) - MINUTE_MS, int(keys[:, 1].max()))
        wanted = subjects.ids[np.isin(subjects.ids, keys[:, 0])]
        at = np.searchsorted(subjects.ids, wanted)
        some = Subjects(wanted, subjects.is_rate[at], subjects.rule[at])
        return self._scores(source, baselines, window, some, rules, keys)

    def _changed(self, fixed: pa.Table) -> pa.Table:
        """Of repaired windows those that deviate otherwise than is stored."""
        if not fixed.num_rows:
            return fixed
        after_ms = int(fixed["window_end"].to_numpy().min()) - MINUTE_MS
        ids = np.unique(fixed["series_id"].to_numpy())
        stored = newest_rows(snapshot(self._store, ANOMALIES).scan(Bounds(after_ms, None, ids)))
        was = {
            (row["series_id"], row["window_end"]): (row["score"], row["is_deviation"])
            for row in stored.to_pylist()
        }
        mask = []
        for row in fixed.to_pylist():
            held = was.get((row["series_id"], row["window_end"]))
            is_news = (row["score"], row["is_deviation"]) != held
            mask.append(row["is_deviation"] if held is None else is_news)
        return fixed.filter(pa.array(mask, pa.bool_()))

    def _rows(self, version: int, scores: pa.Table, rules: Rules) -> pa.Table:
        """Rows of anomalies."""
        scores = scores.sort_by([("series_id", "ascending"), ("window_end", "ascending")])
        count = scores.num_rows
        given = {
            "revision": np.full(count, version, np.int64),
            "detected_at": np.full(count, self._clock.now_ms(), np.int64),
            "rule": pa.array(_names(scores, rules), pa.string()),
        }
        schema = table_schema(ANOMALIES).arrow
        columns = [given[f.name] if f.name in given else scores[f.name] for f in schema]
        return pa.table(columns, schema=schema)

    def _events(
        self, book: EpisodeBook, found: pa.Table, fixed: pa.Table, until_ms: int, rules: Rules
    ) -> list[Event]:
        """What the deviations of a step make of the episodes."""
        order = [("series_id", "ascending"), ("window_end", "ascending")]
        found, fixed = found.sort_by(order), fixed.sort_by(order)
        repaired: dict[int, list[int]] = {}
        for series_id, end in zip(
            fixed["series_id"].to_pylist(), fixed["window_end"].to_pylist(), strict=True
        ):
            repaired.setdefault(series_id, []).append(end)
        far = fixed.filter(fixed["is_deviation"])
        return book.take(
            by_series(found, _names(found, rules)),
            by_series(far, _names(far, rules)),
            repaired,
            until_ms,
            rules,
            self._clock.now_ms(),
        )


_TURN, _EVENTS = positions.turn(ANOMALIES), positions.events()
_NONE = np.empty((0, 2), np.int64)


def _names(scores: pa.Table, rules: Rules) -> list[str]:
    """Name of the rule of each row of scores."""
    names = [rule.name for rule in rules.all]
    return [names[number] for number in scores["rule"].to_pylist()]
