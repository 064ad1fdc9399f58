"""What a supervised process tells its supervisor: that it is ready, that it gets on, how it ended.

The messages are systemd's: datagrams to the socket that NOTIFY_SOCKET names. `varve up` treats its
components as systemd does a service of Type=notify with WatchdogSec. A message needs no disk, so
that a process whose disk is full is not taken for one that hangs.
Source: sd_notify(3); sysexits.h.
"""

from __future__ import annotations

import contextlib
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
READY = "READY=1"
PROGRESS = "WATCHDOG=1"

NEEDS_OPERATOR = 78
"""The exit status of a process that would end so again until somebody has changed something:
EX_CONFIG."""


_said: set[str] = set()
"""What this process has said that stays true."""


def notify(message: str) -> None:
    """Sends a message to the supervisor, if there is one. Never blocks and never fails.

    A message is lost while the supervisor's queue is full, of ten by default. That this process is
    ready is therefore said again with each that follows.
    """
    if message == READY:
        _said.add(READY)
    message = "\n".join(sorted(_said | {message}))
    address = os.environ.get(VARIABLE)
    if not address:
        return
    if address.startswith("@"):  # in Linux' abstract namespace
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
    ):
        sender.sendto(message.encode(), address)
