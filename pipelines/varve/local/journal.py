"""What `varve up` says: on the terminal and in logs/up.log, each line with its time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from varve.local.rotating_log import RotatingLog
from varve.services.logs import configure_for
from varve.settings import Settings

log = logging.getLogger("varve.up")


class Journal:
    """Takes this process's log: what libraries have to say goes to up.log, too."""

    def __init__(self, folder: Path, settings: Settings, show: Callable[[str], None]) -> None:
        """show: prints a text on the terminal."""
        self._show = show
        self._file = RotatingLog(folder, "up", settings.supervision.log_bytes)
        configure_for(settings, _FileHandler(self._file))
        log.setLevel(logging.INFO)  # whatever is left out of what components say

    def say(self, text: str) -> None:
        """Tells a person. A text of several lines is shown as it is below its first line."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._show(f"{now} {text}")
        log.info("%s", text)

    def close(self) -> None:
        self._file.close()


class _FileHandler(logging.Handler):
    def __init__(self, file: RotatingLog) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        self._file.write(f"{self.format(record)}\n".encode(errors="replace"))
