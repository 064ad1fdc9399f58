"""What Varve logs, and in which form."""

from __future__ import annotations

from typing import Literal

from varve.settings.section import Section


class Logs(Section):
    format: Literal["text", "json"] = "text"
    """text: lines for people. json: one object a line, with ts, level, logger, message and what
    belongs to it."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is logged: this and worse. INFO: a line a batch."""
