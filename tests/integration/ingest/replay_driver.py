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
from varve.ingest import replay


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
    replay.commit = killing(replay.commit, "samples", where)
    replay.rewrite = killing(replay.rewrite, "quarantine", where)
    sys.exit(main())
