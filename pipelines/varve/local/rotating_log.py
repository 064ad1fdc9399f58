"""The log files of components: rotated, proof against a full disk, last words kept for a person."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

KEPT = 3
"""Older files of a log. NAME.log.1 is the youngest of them."""

_REMEMBERED = 60
# What a Varve process says last, before it ends, begins with its command.
_ERROR = re.compile(r"\b\w*(Error|Exception|ERROR|FATAL)\b|^varve serve: ")


class RotatingLog:
    """Appends to <folder>/<component>.log; at limit_bytes the file becomes .log.1 and so on.

    Lines that cannot be written are dropped, and counted in a line of their own once there is room
    again: whoever writes the log must go on. May be shared between threads.
    """

    def __init__(self, folder: Path, component: str, limit_bytes: int) -> None:
        self.path = folder / f"{component}.log"
        self._limit = limit_bytes
        self._file: BinaryIO | None = None
        self._dropped = 0
        self._last: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Appends a line, which ends with its newline: no line is torn between two files."""
        with self._lock:
            self._last.append(line)
            try:
                if self._dropped:
                    line = b"(%d lines could not be written)\n%s" % (self._dropped, line)
                self._append(line)
                self._dropped = 0
            except OSError:
                self._dropped += 1
                # Opened anew by the next line: this one may be in there in part.
                self._close()

    def begin(self) -> None:
        """Forgets the lines so far: those that follow are another process's words."""
        with self._lock:
            self._last.clear()

    def last_lines(self, count: int) -> list[str]:
        """The last lines since the last beginning, at most 60, for a person."""
        with self._lock:
            lines = [line.decode(errors="replace").rstrip() for line in self._last]
        return [_readable(line) for line in lines if line][-count:]

    def last_error(self) -> str:
        """The last of those lines that names an error, else the last that is none of a stack."""
        lines = [line for line in self.last_lines(_REMEMBERED) if not line[0].isspace()]
        errors = [line for line in lines if _ERROR.search(line)]
        return (errors or lines or [""])[-1]

    def close(self) -> None:
        with self._lock:
            self._close()

    def _append(self, line: bytes) -> None:
        file = self._file or self._open()
        end = file.tell()
        if end + len(line) > self._limit and end > 0:
            file = self._rotate()
            end = 0
        left = memoryview(line)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            # A part of the line may be there. It would run into the next one.
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _rotate(self) -> BinaryIO:
        self._close()
        names = [self.path, *(Path(f"{self.path}.{n}") for n in range(1, KEPT + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        return self._open()


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
