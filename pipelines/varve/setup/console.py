"""What set-up says, and the one kind of error it ends with."""

import sys


class SetupError(Exception):
    """Set-up cannot go on. The text is one line that says what to do."""


def say(text: str) -> None:
    """A line on standard output, at once: what runs next may take minutes."""
    print(text, flush=True)


def complain(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def megabytes(size: int) -> str:
    """`size` bytes for people: "12.3 MB" (10^6 bytes, as pip counts)."""
    return f"{size / 10**6:.1f} MB"


def gibibytes(size: int) -> str:
    """`size` bytes for people: "1.5 GiB"."""
    return f"{size / 2**30:.1f} GiB"
