"""What may be written to a terminal, and what happens when nobody reads it any more."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

# Control characters, which move the cursor and recolour or retitle a terminal; the marks of
# writing direction, which show text in another order than it has; half characters, which cannot be
# written at all.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str, keep: str = "") -> str:
    r"""The text with unsafe characters written as \u001b, which also keeps JSON what it says.

    Metric names, labels and error texts come from whoever produces samples. `keep` has the
    characters that the caller means as they are.
    """
    return _UNSAFE.sub(
        lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text
    )


def printed(run: Callable[[], int]) -> int:
    """What `run`, which prints to stdout, returns. 0 where whoever reads has seen enough, as `head`
    has; where stdout is closed nothing is printed. Raises OSError if it cannot be written.
    """
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process lives
    try:
        status = run()
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_what_is_buffered()
        return 0
    except OSError:
        _drop_what_is_buffered()
        raise
    return status


def _drop_what_is_buffered() -> None:
    """Lets it go somewhere when Python closes stdout, which would be an error again."""
    # Captured output has no file.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
