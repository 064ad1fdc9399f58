"""What a process does before its first request: kernels compiled, the collector of garbage set."""

from __future__ import annotations

import gc
import sys

from varve.ingest import arrow_codec
from varve.model.compiled import warm_up

_KERNELS = ("hashes", "labels", "messages", "otlp", "requests", "scrape", "text", "walk")

# Allocations between two looks for cycles. New series are many tuples at once, none of them in a
# cycle: by Python's default of 700 looking takes more than half of their time.
_GC_THRESHOLDS = (100_000, 20, 50)

# Seconds that a thread may go on while another waits for the interpreter. On its way to Kafka and
# back a message passes from thread to thread several times, and by Python's default of 5 ms waits
# that long at each where there is more to do than there is time.
_SWITCH_S = 0.0005


def make_ready() -> None:
    """Loads or compiles kernels, and sets the interpreter up for requests.

    Takes a moment from a warm cache, some seconds without one.
    """
    warm_up(*(f"varve.gateway.kernel_{part}" for part in _KERNELS))
    arrow_codec.write_definitions(())  # the first of them imports pandas, where it is installed
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_S)
