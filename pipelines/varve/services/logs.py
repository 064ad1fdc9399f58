"""Logs of the components: one format for all, files that do not grow without end."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections import deque
from pathlib import Path

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-5s %(name)s %(message)s"
_REMEMBERED = 60
_ERROR = re.compile(r"\b\w*(Error|Exception|ERROR|FATAL)\b")
KEPT = 3
"""Older files of a log: NAME.log.1 is the youngest."""


def configure_logging(level: int = logging.INFO) -> None:
    """This process's log to standard error, which `varve up` writes to the component's file."""
    formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("kafka", "py4j", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    handler.addFilter(Sparing("kafka"))


class Sparing(logging.Filter):
    """Lets each message of one library through once a minute: Kafka's says every failed connection
    three times, ten times a second.
    """

    def __init__(self, library: str, every_s: float = 60.0) -> None:
        super().__init__()
        self._prefix = library + "."
        self._every_s = every_s
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(self._prefix):
            return True
        key = (record.name, record.msg)
        if record.created - self._said.get(key, 0.0) < self._every_s:
            return False
        self._said[key] = record.created
        return True


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
        """A whole line, with its end: a line is never torn between two files."""
        with self._lock:
            if self._file.tell() + len(line) > self._limit and self._file.tell() > 0:
                self._rotate()
            self._file.write(line)
            self._file.flush()
            self._last.append(line)

    def last_lines(self, count: int) -> list[str]:
        """The last lines this object wrote, at most 60."""
        with self._lock:
            lines = [line.decode(errors="replace").rstrip() for line in self._last]
        return [line for line in lines if line][-count:]

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
