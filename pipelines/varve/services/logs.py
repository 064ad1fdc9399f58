"""What a process logs, and in which form; no line shows a secret.

What belongs to a line besides its words goes along as `extra={"fields": {...}}`: it follows the
words in text and has keys of its own in JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from varve.settings import Settings

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-5s %(name)s %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S"
_HIDDEN = "***"
LogFormat = Literal["text", "json", "logfmt"]


def configure_logging(
    level: int = logging.INFO,
    form: LogFormat = "text",
    secrets: Collection[str] = (),
    handler: logging.Handler | None = None,
) -> None:
    """Sends the log of this process to a handler.

    handler: standard error by default, which `varve up` writes to a component's file. secrets:
    texts that a line shows as ***, whoever wrote it.
    """
    handler = handler or logging.StreamHandler(sys.stderr)
    formatter = {"text": _Text, "json": _Json, "logfmt": _Logfmt}[form]
    handler.setFormatter(formatter(secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("kafka", "py4j", "uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    handler.addFilter(Sparing("kafka"))


def configure_for(settings: Settings, handler: logging.Handler | None = None) -> None:
    """Configures the log of this process as the settings say."""
    logs = settings.logs
    level = logging.getLevelNamesMapping()[logs.level]
    configure_logging(level, logs.format, settings.secrets(), handler)


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


class _Logfmt(logging.Formatter):
    """key=value pairs as Prometheus' services write them: time, level, msg, then the fields."""

    converter = staticmethod(time.gmtime)

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__(datefmt=_TIME)
        self._secrets = _spellings(secrets)

    def format(self, record: logging.LogRecord) -> str:
        pairs = {
            "time": f"{self.formatTime(record, _TIME)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            pairs["err"] = self.formatException(record.exc_info)
        line = " ".join(f"{key}={_logfmt_value(str(value))}" for key, value in pairs.items())
        return _without(self._secrets, line)


def _logfmt_value(text: str) -> str:
    plain = text and not any(char in text for char in ' ="\\') and text.isprintable()
    return text if plain else json.dumps(text, ensure_ascii=False)


def _spellings(secrets: Collection[str]) -> tuple[str, ...]:
    """The secrets as they are and as they look within JSON."""
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
