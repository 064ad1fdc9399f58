"""What sends in a thread of its own until it is told to stop."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class SendingThread(ABC):
    """Sends from the end of its construction on, which a subclass leaves to the last line of its
    own.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Returns once it sends no more."""
        self._stopping.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Sends until _stopping is set."""
