"""How the interpreter of a long-running service looks for garbage and shares its lock."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Final

# Allocations between two looks for cycles. Series and their labels, or the alerts of a storm, are
# many small objects at once, none of them in a cycle: by the default of 700 looking takes about
# half of their time, and stops everything else meanwhile.
_GC_THRESHOLDS: Final = (100_000, 20, 50)

# Seconds that a thread may go on while another waits for the interpreter. A request passes from
# thread to thread several times, and by Python's default of 5 ms waits that long at each where
# there is more to do than there is time.
_SWITCH_S: Final = 0.0005


def look_for_garbage_rarely() -> None:
    """To be called once the service has what it keeps until its end: that is never looked at."""
    gc.freeze()
    # At its end all is: extension modules say of what is left then that it has leaked.
    atexit.register(gc.unfreeze)
    gc.set_threshold(*_GC_THRESHOLDS)


def set_up_for_requests() -> None:
    """The same, for a service whose threads hand requests to each other."""
    look_for_garbage_rarely()
    sys.setswitchinterval(_SWITCH_S)
