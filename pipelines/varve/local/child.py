"""Becomes another program that dies with its parent.

Run by its path: `python -I child.py PARENT_PID PROGRAM ARGUMENT...`.

Imports nothing of Varve. Linux tells the child of its parent's death, however it died; what is
killed so is safe, for every component survives a power cut.
Source: prctl(2), PR_SET_PDEATHSIG; kept over execve(2).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
