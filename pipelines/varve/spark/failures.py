"""Why tasks of Spark have failed, by what Spark says of it: an exception's text and its causes."""

from __future__ import annotations

import builtins
import re

from varve.model import errors

# The last line of a Python traceback that came out of a worker.
_PYTHON = re.compile(r"^\s*(?:[\w.]+\.)?(\w+)(?:: .*)?$", re.MULTILINE)
_CAUSE = re.compile(r"^\s*(?:Caused by: )?(\S*(?:Exception|Error)\b.*)$", re.MULTILINE)
_OVERFLOW = "java.lang.ArithmeticException"
# What Spark says if a worker raised something, if it died, and if a record cannot be read at all.
_TASK_FAILED = (
    "Traceback (most recent call last)",
    "Python worker exited unexpectedly",
    "fetching the next record",
)
# Errors of Python whose cause is outside of the messages: a full disk, a storage that is away.
_OUTSIDE = {
    name
    for module in (builtins, errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, (OSError, errors.VarveError))
}
_CHARACTERS = 300


def is_unreadable_timestamp(err: BaseException) -> bool:
    """Whether Spark's Kafka source met a timestamp whose microseconds are over 2^63."""
    return _OVERFLOW in str(err)


def is_about_messages(err: BaseException) -> bool:
    """Whether fewer messages might not fail: false if the cause is outside of them."""
    text = str(err)
    if not any(sign in text for sign in _TASK_FAILED):
        return False
    return _OUTSIDE.isdisjoint(_PYTHON.findall(text))


def cause_of(err: BaseException) -> str:
    """The innermost cause that is named, in a line."""
    named = _CAUSE.findall(str(err))
    text = named[-1] if named else str(err)
    return " ".join(text.split())[:_CHARACTERS]
