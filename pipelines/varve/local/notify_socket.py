"""The socket on which components say, by sd_notify, that they are ready and get on."""

from __future__ import annotations

import socket
import struct

from varve.services.supervised import VARIABLE

_CREDENTIALS = struct.Struct("3i")
"""A ucred of the kernel: process, user and group."""
_CREDENTIALS_SPACE = socket.CMSG_SPACE(_CREDENTIALS.size)


class NotifySocket:
    """A datagram socket of the abstract namespace. Senders are known by their process ids."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")  # the kernel picks a free abstract address

    @property
    def environment(self) -> dict[str, str]:
        """The variable that a child must be started with."""
        return {VARIABLE: "@" + self._socket.getsockname()[1:].decode()}

    def heard(self) -> list[tuple[int, str]]:
        """Process id and message of all that has come since the last call. Does not block."""
        found: list[tuple[int, str]] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4_096, _CREDENTIALS_SPACE)
            except BlockingIOError:
                return found
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0]
                    found.append((pid, data.decode(errors="replace")))

    def close(self) -> None:
        self._socket.close()
