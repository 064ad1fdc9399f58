"""The HTTP server: uvicorn over bounded connections, with or without TLS."""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from varve.api.http_protocol import BoundedProtocol, Bounds

KEEP_ALIVE_S = 120
"""Seconds a connection may be idle. Longer than the 90 s for which Go's client keeps one, so that
the client closes it and never sends a request into a closing connection."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Names of PEM files: the service's certificate and key, and the certificates that sign those
    of clients, which must have one if it is not empty.
    """

    cert_file: str
    key_file: str
    client_ca_file: str = ""

    def options(self) -> dict[str, Any]:
        """What uvicorn is told."""
        return {
            "ssl_certfile": self.cert_file,
            "ssl_keyfile": self.key_file,
            "ssl_ca_certs": self.client_ca_file or None,
            "ssl_cert_reqs": ssl.CERT_REQUIRED if self.client_ca_file else ssl.CERT_NONE,
        }


class Server(uvicorn.Server):
    """uvicorn raises a signal again once it has stopped; this one returns instead."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_of(
    app: ASGIApp,
    headers: Sequence[tuple[str, str]] = (),
    *,
    tls: Tls | None = None,
    bounds: Bounds | None = None,
) -> Server:
    """A server that has not started; `serve(sockets=[...])` runs it.

    headers: added to every answer.
    """
    protocol = functools.partial(BoundedProtocol, bounds=bounds or Bounds())
    return Server(
        uvicorn.Config(
            app,
            http=protocol,  # type: ignore[arg-type]  # it makes one
            ws="none",
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            headers=list(headers),
            **(tls.options() if tls else {}),
        )
    )


def tcp_socket(host: str) -> socket.socket:
    """A socket to listen on, not bound yet.

    It names its protocol, without which asyncio would leave Nagle's algorithm on: an answer's body
    would wait 40 ms for the client to acknowledge its head.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listener
