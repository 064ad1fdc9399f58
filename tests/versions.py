"""What an answer has to hold, by the versions of the tables that it names, while tests/changing.py
changes them.

It shares no code with what stores, moves and reads rows: positions are read from the JSON of the
log, and rows come from the seed.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.changing import BEGIN, SHORT, Plan, Row
from varve.model.window import DAY_MS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_APPENDED, _EXPIRED = "test:0", "expired:default"
_SHORT_EXPIRED = f"expired:{SHORT.text}"
_UNSURE_BATCHES = 3
"""Batches that may have come between what a deletion has seen of the table and its commit."""


@dataclass(frozen=True)
class Gone:
    """A deletion: of the first `seen` rows those go surely, up to `most` perhaps."""

    number: int
    ids: frozenset[int]
    start_ms: int
    end_ms: int
    seen: int
    most: int


@dataclass(frozen=True)
class State:
    """A version of samples: how many rows had been appended, up to where they may have expired, and
    which deletions were done. unsure: one that had begun.
    """

    rows: int
    expired_ms: int
    short_expired_ms: int
    gone: Sequence[Gone]
    unsure: Gone | None


@dataclass(frozen=True)
class Points:
    """Samples of one series by time: those that must be there, and all that may."""

    ts: Ints
    values: Floats
    sure: Mask

    @property
    def is_sure(self) -> bool:
        return bool(self.sure.all())


class Log:
    """The positions of a table at each version, and what its commits say of deletions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "_delta_log"
        self._at: list[dict[str, int]] = []
        self.told: dict[int, dict[str, Any]] = {}
        """By number of a deletion."""
        self.numbered: dict[int, int] = {}
        """By number of a deletion, the version that it is."""

    def at(self, version: int) -> dict[str, int]:
        while len(self._at) <= version:
            held = dict(self._at[-1]) if self._at else {}
            number = len(self._at)
            text = (self._folder / f"{number:020}.json").read_text()
            for line in map(json.loads, text.splitlines()):
                if "txn" in line:
                    held[line["txn"]["appId"]] = line["txn"]["version"]
                if "commitInfo" in line:
                    said = json.loads(line["commitInfo"].get("varve", "{}"))
            for key in ("deletion_begun", "deletion"):
                if "ids" in said.get(key, {}):
                    self.told[held["deleting"]] = said[key]
            done = held.get("deletion")
            if done is not None and done not in self.numbered:
                self.numbered[done] = number
            self._at.append(held)
        return self._at[version]


class _Day:
    """Rows that come in a day, by series; before: how many come earlier."""

    def __init__(self, rows: Sequence[Row], before: int) -> None:
        ids, ts, values = (np.array(column) for column in zip(*rows, strict=True))
        order = np.lexsort((ts, ids))
        self._ids, self._ts, self._values = ids[order], ts[order], values[order]
        self._numbers = before + order
        self.first_ms = int(ts.min())

    def of(self, series_id: int, start_ms: int, end_ms: int) -> tuple[Ints, Floats, Ints]:
        """Time, value and number of the rows of a series in (start_ms, end_ms]."""
        first, last = np.searchsorted(self._ids, [series_id, series_id + 1])
        begin, end = first + np.searchsorted(self._ts[first:last], [start_ms, end_ms], "right")
        return self._ts[begin:end], self._values[begin:end], self._numbers[begin:end]


class Oracle:
    """For any thread."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._plan, self._batches = plan, plan.batches()
        self._logs = {p.name: Log(p) for p in (folder / "hot").iterdir() if p.is_dir()}
        self._days: list[_Day] = []
        self._counts = [0]
        """Rows after so many batches."""
        self._lock = threading.Lock()

    def state(self, versions: Mapping[str, int], tiers: Sequence[str] = ()) -> State:
        """tiers: of the tables that have answered, too: what they still have of what was deleted is
        unsure.
        """
        with self._lock:
            log = self._logs["samples"]
            held = log.at(versions["samples"])
            done = held.get("deletion", -1)
            begun = held.get("deleting", -1)
            behind = [self._logs[t].at(versions[t]).get("deletion", -1) for t in tiers]
            while self._counts[-1] < held[_APPENDED]:
                self._days.append(self._next_day())
            gone = [self._gone(log, n, unsure=n > min([done, *behind])) for n in range(done + 1)]
            unsure = self._gone(log, begun, unsure=True) if begun > done else None
            short = held.get(_SHORT_EXPIRED, 0)
            expired = held.get(_EXPIRED, 0)
            return State(held[_APPENDED], expired, max(expired, short), gone, unsure)

    def points(
        self, series_id: int, start_ms: int, end_ms: int, state: State, expired_ms: int
    ) -> Points:
        """Those in (start_ms, end_ms], each time once. expired_ms: up to where they are unsure."""
        with self._lock:
            days = self._days[max(0, (start_ms - BEGIN) // DAY_MS) :]
        parts = [day.of(series_id, start_ms, end_ms) for day in days if day.first_ms <= end_ms]
        if not parts:
            return Points(np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))
        ts, values, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
        there = numbers < state.rows
        sure = there & (ts > expired_ms)
        for gone in (*state.gone, *([state.unsure] if state.unsure else [])):
            if series_id not in gone.ids:
                continue
            inside = (ts >= gone.start_ms) & (ts <= gone.end_ms)
            there &= ~(inside & (numbers < gone.seen))
            sure &= ~(inside & (numbers < gone.most))
        ts, values, sure = ts[there], values[there], sure[there]
        times, first = np.unique(ts, return_index=True)
        surely = np.zeros(len(times), np.bool_)
        np.logical_or.at(surely, np.searchsorted(times, ts), sure)
        return Points(times, values[first], surely)

    def _gone(self, log: Log, number: int, *, unsure: bool) -> Gone:
        told = log.told[number]
        ids = np.frombuffer(base64.b64decode(told["ids"]), "<i8").tolist()
        version = log.numbered.get(number)
        most = 1 << 62 if version is None else log.at(version)[_APPENDED]
        seen = 0
        if not unsure:
            earlier = [count for count in self._counts if count <= most]
            seen = earlier[max(0, len(earlier) - 1 - _UNSURE_BATCHES)]
        return Gone(number, frozenset(ids), told["start_ms"], told["end_ms"], seen, most)

    def _next_day(self) -> _Day:
        """The batches of the next day."""
        rows: list[Row] = []
        before = self._counts[-1]
        for _ in range(24):
            rows += next(self._batches)
            self._counts.append(before + len(rows))
        return _Day(rows, before)

    def runs(self) -> Iterator[tuple[int, int]]:
        """The hour in which each short series begins, and its series_id."""
        with self._lock:
            hours = len(self._counts) - 1
        for hour in range(hours):
            yield hour, self._plan.short(hour).series_id
