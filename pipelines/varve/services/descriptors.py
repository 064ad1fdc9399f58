"""How many files and connections a service may have open."""

from __future__ import annotations

import contextlib
import resource


def use_all_descriptors() -> None:
    """Lets this process open as many files as it may. Shells allow 1,024 for the sake of select(),
    which clients that keep connections open would use up; then no file could be opened.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
