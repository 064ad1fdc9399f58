"""Compiles regexes of users: RE2 syntax, anchored at both ends, and `.` matches newlines."""

from __future__ import annotations

from functools import lru_cache

import re2

CACHED = 128
"""How many compiled patterns are kept. Each may take some MB, and anyone may send them."""

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True

# Go's text for an error, by the text of the C++ library.
_GO_TEXTS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "unexpected )": "unexpected )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
}


@lru_cache(maxsize=CACHED)
def compile_anchored(pattern: str) -> re2._Regexp:
    """Compiles `pattern`; use its fullmatch(). Raises ValueError, with Go's text, if malformed."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(f"error parsing regexp: {go_text(error, pattern)}") from None


def go_text(error: Exception, pattern: str) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "invalid UTF-8"
    text = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error.args[0])
    kind, _, argument = text.partition(": ")
    if kind == "trailing \\":
        return f"{_GO_TEXTS[kind]}: ``"
    return f"{_GO_TEXTS.get(kind, kind)}: `{argument or pattern}`"


@lru_cache(maxsize=CACHED)
def matches_empty(pattern: str) -> bool:
    """Whether `pattern` matches the empty string. Raises ValueError as compile_anchored does."""
    return compile_anchored(pattern).fullmatch("") is not None
