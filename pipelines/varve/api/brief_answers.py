"""Which requests have lately been answered so soon that handing them to a thread costs as much."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from varve.api.parameters import Parameters

# An answer that takes longer holds up others on the event loop for longer than a thread costs.
BRIEF_S: Final = 0.003
PATIENCE_S: Final = 0.02
"""How long an answer may take on the event loop that is expected to be brief."""
MISSED_S: Final = 0.1
"""What one is said to have taken that was not brief there."""
# Where threads wait for each other an answer takes a few times its CPU seconds; what takes more
# waits for files.
_CONTENTION: Final = 4
_MOST_KEPT: Final = 4_096
_LONGEST: Final = 2_000

Key = tuple[str | tuple[str, str], ...]
_TIMES: Final = frozenset(("start", "end", "time"))


class Stopwatch:
    """Of one thread, from when it is made."""

    def __init__(self) -> None:
        self._cpu_s, self._elapsed_s = time.thread_time(), time.monotonic()

    def took_s(self) -> float:
        """CPU seconds, which do not depend on what else is under way; where files were waited for
        seconds.
        """
        cpu_s, elapsed_s = time.thread_time() - self._cpu_s, time.monotonic() - self._elapsed_s
        return cpu_s if elapsed_s < _CONTENTION * cpu_s else elapsed_s


class BriefAnswers:
    """What answers took the last time, of the newest 4,096 different ones. For one event loop."""

    def __init__(self) -> None:
        self._took_s: OrderedDict[Key, float] = OrderedDict()

    def expects(self, key: Key) -> bool:
        """Whether such answers have lately taken under 3 ms."""
        return self._took_s.get(key, BRIEF_S) < BRIEF_S

    def learn(self, key: Key, took_s: float) -> None:
        """took_s: by a Stopwatch; MISSED_S where it was ended on the loop. What has been slow
        has to be brief a few times before it is expected to be.
        """
        self._took_s[key] = max(took_s, self._took_s.get(key, 0.0) / 2)
        self._took_s.move_to_end(key)
        if len(self._took_s) > _MOST_KEPT:
            self._took_s.popitem(last=False)


def key_of(path: str, given: Parameters) -> Key | None:
    """What has to be alike for two answers to take alike: all but when the range ends. path: of
    the request. None for what is too long to be remembered.
    """
    if sum(len(value) for _, value in given.pairs) > _LONGEST:
        return None
    others = (pair for pair in given.pairs if pair[0] not in _TIMES)
    return (path, _seconds(given.get("start"), given.get("end")), *others)


def _seconds(start: str, end: str) -> str:
    """How long a range is; start and end themselves where they are no numbers."""
    if not start:
        return end
    try:
        return f"{float(end) - float(start):.0f}"
    except ValueError:
        return f"{start} {end}"
