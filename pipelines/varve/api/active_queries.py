"""The queries under way: listed, ended by who may, and still known if the process dies of them.

The file has a line for each place, written through shared memory: what a process has written stays
when it is killed, without a sync.
"""

from __future__ import annotations

import itertools
import json
import logging
import mmap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A line of the file. Longer queries are cut there.
_LINE_BYTES = 1_024
_MOST_TEXT = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActiveQuery:
    """One under way. since_ms: Unix ms. Setting `cancelled` ends it."""

    number: int
    route: str
    query: str
    who: str
    since_ms: int
    cancelled: threading.Event

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "route": self.route,
            "query": self.query,
            "principal": self.who,
            "since": self.since_ms / 1000,
        }


class ActiveQueries:
    """Safe to use from any thread."""

    def __init__(self, path: Path | None = None, places: int = 64) -> None:
        """path: of the file, none without. What it has of an earlier process is logged: those
        queries were under way when it died. places: how many at once it has room for.
        """
        self._numbers = itertools.count(1)
        self._active: dict[int, ActiveQuery] = {}
        self._lines: dict[int, int] = {}
        self._free = list(range(places))
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        if path is not None:
            _tell_of(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_line("") * places)
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)

    def begin(
        self, route: str, query: str, who: str, now_ms: int, cancelled: threading.Event
    ) -> int:
        """Notes a query that begins. Returns its number."""
        with self._lock:
            number = next(self._numbers)
            one = ActiveQuery(number, route, query[:_MOST_TEXT], who, now_ms, cancelled)
            self._active[number] = one
            if self._map is not None and self._free:
                self._lines[number] = self._free.pop()
                self._write(self._lines[number], json.dumps(one.to_json()))
            return number

    def end(self, number: int) -> None:
        """Forgets a query that has ended."""
        with self._lock:
            del self._active[number]
            line = self._lines.pop(number, None)
            if line is not None:
                self._write(line, "")
                self._free.append(line)

    def listed(self) -> list[dict[str, Any]]:
        """Those under way, the oldest first."""
        with self._lock:
            return [one.to_json() for one in self._active.values()]

    def cancel(self, number: int) -> bool:
        """Ends a query; False if there is none of the number."""
        with self._lock:
            one = self._active.get(number)
        if one is not None:
            one.cancelled.set()
        return one is not None

    def _write(self, line: int, text: str) -> None:
        if self._map is not None:
            self._map[line * _LINE_BYTES : (line + 1) * _LINE_BYTES] = _line(text)


def _line(text: str) -> bytes:
    return text.encode(errors="replace")[: _LINE_BYTES - 1].ljust(_LINE_BYTES - 1) + b"\n"


def _tell_of(path: Path) -> None:
    """Logs what an earlier process has left in the file."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in filter(None, map(str.strip, lines)):
        log.warning("under way when the service last ended: %s", line)
