"""Compiles regexes of users: RE2 syntax, anchored at both ends, and `.` matches newlines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import re2

from varve.model import series_matcher
from varve.promql.interrupt import Check, checked, never

CACHED = 128
"""How many compiled patterns are kept. Each may take some MB, and anyone may send them."""

_FEW: Final = 64
"""Up to here texts are tried one by one as fast as all at once."""

_TEXTS_A_PIECE: Final = 4_096
"""What is handed to Arrow at once, with the lock held: some tenths of a millisecond."""

_TEXTS_A_CHARACTER: Final = 32
"""More of them, the longer a pattern takes to compile."""

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


def matching(
    pattern: str, texts: Sequence[str], places: range, check: Check = never
) -> npt.NDArray[np.bool_]:
    """Which of the texts at some places in a row `pattern` matches. Of many, no interpreter's lock
    is held meanwhile.

    check: see interrupt.py. Raises ValueError as compile_anchored does.
    """
    compiled = compile_anchored(pattern)
    found = np.zeros(len(places), dtype=np.bool_)
    # An open \Q would quote what is put behind the pattern to anchor it.
    by_arrow = len(places) > _FEW and "\\Q" not in pattern
    # Arrow compiles the pattern for each piece.
    size = max(_TEXTS_A_PIECE, _TEXTS_A_CHARACTER * len(pattern))
    for begin in range(0, len(places), size):
        check()
        here = places[begin : begin + size]
        piece = texts[here.start : here.stop]
        matched = _matched_at_once(pattern, piece) if by_arrow else None
        if matched is None:
            tries = (compiled.fullmatch(text) is not None for text in checked(piece, check))
            matched = np.fromiter(tries, np.bool_, len(piece))
        found[begin : begin + len(piece)] = matched
    return found


def _matched_at_once(pattern: str, texts: Sequence[str]) -> npt.NDArray[np.bool_] | None:
    """None for a pattern so near RE2's limit of size that it is over it with its anchors."""
    try:
        return series_matcher.matching(pattern, texts)
    except pa.ArrowInvalid:
        return None


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
