"""Being asked to stop: SIGTERM from a supervisor, Ctrl-C from a person."""

from __future__ import annotations

import signal
import threading


def stop_requested() -> threading.Event:
    """An event that is set by SIGTERM or SIGINT from now on. Call it in the main thread."""
    event = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: event.set())
    return event
