"""Logs of the components: one format for all, files that do not grow without end.

What belongs to a line besides its words goes along as `extra={"fields": {...}}`: after the words in
text, as keys of their own in JSON.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from varve.settings import Settings

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-5s %(name)s %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S"
_HIDDEN = "***"
_REMEMBERED = 60
_ERROR = re.compile(r"\b\w*(Error|Exception|ERROR|FATAL)\b")
KEPT = 3
"""Older files of a log: NAME.log.1 is the youngest."""


LogFormat = Literal["text", "json"]


def configure_logging(
    level: int = logging.INFO, form: LogFormat = "text", secrets: Collection[str] = ()
) -> None:
    """This process's log to standard error, which `varve up` writes to the component's file.

    secrets: texts that a line shows as ***, whoever wrote it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(secrets) if form == "json" else _Text(secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("kafka", "py4j", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    handler.addFilter(Sparing("kafka"))


def configure_for(settings: Settings) -> None:
    """The same, as the settings say."""
    logs = settings.logs
    level = logging.getLevelNamesMapping()[logs.level]
    configure_logging(level, logs.format, settings.secrets())


class _Text(logging.Formatter):
    """A line for people; a stack trace follows in lines of its own."""

    converter = staticmethod(time.gmtime)

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__(_FORMAT, _TIME)
        self._secrets = _spellings(secrets)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        fields = getattr(record, "fields", None)
        return line if fields is None else f"{line} {json.dumps(fields, default=str)}"

    def format(self, record: logging.LogRecord) -> str:
        return _without(self._secrets, super().format(record))


class _Json(logging.Formatter):
    """One object a line: ts, level, logger, message, the fields, and exception if there is one.

    Fields never replace the first four.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__(datefmt=_TIME)
        self._secrets = _spellings(secrets)

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": f"{self.formatTime(record, _TIME)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = {**getattr(record, "fields", {}), **line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _without(self._secrets, json.dumps(line, default=str))


def _readable(line: str) -> str:
    """What a line of JSON says in a few words; any other as it is."""
    try:
        record = json.loads(line)
        words = f"{record['level']} {record.get('message') or record['msg']}"
        exception = record.get("exception")
    except (ValueError, KeyError, TypeError):
        return line
    if isinstance(exception, dict):  # Spark's
        return f"{words}: {exception.get('class')}: {exception.get('msg')}"
    return f"{words}: {exception.splitlines()[-1]}" if exception else words


def _spellings(secrets: Collection[str]) -> tuple[str, ...]:
    """As they are, and as they look within JSON."""
    return tuple(dict.fromkeys(s for secret in secrets for s in (secret, json.dumps(secret)[1:-1])))


def _without(secrets: Collection[str], line: str) -> str:
    for secret in secrets:
        line = line.replace(secret, _HIDDEN)
    return line


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
