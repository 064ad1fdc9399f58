"""How far a long copy is, told on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable


def copy_progress() -> Callable[[int, int, int], None]:
    """Takes files done, all files, and bytes done; says so on standard error, if that is a
    terminal, in one line that stays short.
    """
    if not sys.stderr.isatty():
        return lambda _done, _all, _bytes: None
    said = -1

    def say(done: int, every: int, nbytes: int) -> None:
        nonlocal said
        percent = 100 * done // every
        if percent != said:
            said = percent
            end = "\n" if done == every else ""
            text = f"\r{percent:3} %  {done:,} of {every:,} files, {nbytes / 1e6:,.0f} MB"
            print(text, end=end, file=sys.stderr, flush=True)

    return say
