"""The log files of components: they are rotated, and their last words are kept for a person."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from pathlib import Path

KEPT = 3
"""Older files of a log. NAME.log.1 is the youngest of them."""

_REMEMBERED = 60
_ERROR = re.compile(r"\b\w*(Error|Exception|ERROR|FATAL)\b")


class RotatingLog:
    """Appends to <folder>/<component>.log; at limit_bytes the file becomes .log.1 and so on.

    May be shared between threads.
    """

    def __init__(self, folder: Path, component: str, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{component}.log"
        self._limit = limit_bytes
        self._file = self.path.open("ab")
        self._last: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Appends a line, which ends with its newline: no line is torn between two files."""
        with self._lock:
            if self._file.tell() + len(line) > self._limit and self._file.tell() > 0:
                self._rotate()
            self._file.write(line)
            self._file.flush()
            self._last.append(line)

    def last_lines(self, count: int) -> list[str]:
        """The last lines this object wrote, at most 60, for a person."""
        with self._lock:
            lines = [line.decode(errors="replace").rstrip() for line in self._last]
        return [_readable(line) for line in lines if line][-count:]

    def last_error(self) -> str:
        """The last of those lines that names an error, else the last that is none of a stack."""
        lines = [line for line in self.last_lines(_REMEMBERED) if not line[0].isspace()]
        errors = [line for line in lines if _ERROR.search(line)]
        return (errors or lines or [""])[-1]

    def close(self) -> None:
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        names = [self.path, *(Path(f"{self.path}.{n}") for n in range(1, KEPT + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        self._file = self.path.open("ab")


def _readable(line: str) -> str:
    """A line of JSON in a few words; any other line as it is."""
    try:
        record = json.loads(line)
        words = f"{record['level']} {record.get('message') or record['msg']}"
        exception = record.get("exception")
    except (ValueError, KeyError, TypeError):
        return line
    if isinstance(exception, dict):  # Spark's
        return f"{words}: {exception.get('class')}: {exception.get('msg')}"
    return f"{words}: {exception.splitlines()[-1]}" if exception else words
