"""Dies at a named point: wraps functions so that passing one kills the whole process group."""

from __future__ import annotations

import functools
import itertools
import os
import signal
from typing import Any

POINTS = (
    "before the batch",
    "after decode",
    "after files",
    "after registration",
    "between the commits",
    "after both commits",
)

_armed: dict[str, Any] = {"point": None}


def arm(point: str, number: int, group: int = 0) -> None:
    """group: the one to kill; by default one's own."""
    _armed.update(point=point, number=number, group=group, passed=itertools.count(1))


def before(owner: type, name: str, point: str) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        _pass(point)
        return original(*args, **options)

    setattr(owner, name, wrapped)


def after(owner: type, name: str, point: str) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        _pass(point)
        return result

    setattr(owner, name, wrapped)


def _pass(point: str) -> None:
    if point == _armed["point"] and next(_armed["passed"]) >= _armed["number"]:
        os.killpg(_armed["group"], signal.SIGKILL)
