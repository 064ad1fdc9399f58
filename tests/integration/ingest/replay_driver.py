"""jobs/replay_quarantine.py, which can be made to kill itself: python replay_driver.py POINT ARG...

POINT: "before" or "after" the commit to samples ("samples") or to quarantine ("quarantine"), as
"before-samples"; "none": never.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from jobs.replay_quarantine import main
from varve.ingest import quarantine_replay


def killing(step: Callable[..., Any], name: str, point: str) -> Callable[..., Any]:
    def wrapped(*args: Any, **options: Any) -> Any:
        if point == f"before-{name}":
            os.kill(os.getpid(), signal.SIGKILL)
        result = step(*args, **options)
        if point == f"after-{name}":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


if __name__ == "__main__":
    where = sys.argv.pop(1)
    quarantine_replay.commit = killing(quarantine_replay.commit, "samples", where)
    quarantine_replay.rewrite = killing(quarantine_replay.rewrite, "quarantine", where)
    sys.exit(main())
