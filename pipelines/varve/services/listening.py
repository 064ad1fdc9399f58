"""The socket that a service listens on, bound before anything else is begun."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from varve.api.server import tcp_socket
from varve.services.ports import require_free


@contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """A socket bound to the address. NeedsOperator, naming the holder and the setting, if it is
    taken.
    """
    with tcp_socket(host) as listener:
        try:
            listener.bind((host, port))
        except OSError:
            require_free(host, port, setting)  # says what is wrong
            raise
        yield listener
