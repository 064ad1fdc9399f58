"""Serves /metrics of a process that serves nothing else."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from varve.services.ports import holder, require_free
from varve.telemetry.registry import Telemetry

log = logging.getLogger(__name__)


@contextmanager
def serving(
    telemetry: Telemetry, host: str, port: int, setting: str, others: Sequence[int] = ()
) -> Iterator[str]:
    """Serves the page by a thread until the block ends, and gives its address.

    port 0: any free one. others: ports that are tried in turn if the first is taken. Raises
    NeedsOperator, naming the holder and the setting, if none can be had.
    """
    server, thread = _start(telemetry, host, port, setting, others)
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _start(
    telemetry: Telemetry, host: str, port: int, setting: str, others: Sequence[int]
) -> tuple[WSGIServer, Thread]:
    for candidate in (port, *others):
        try:
            server, thread = start_http_server(candidate, host, telemetry.registry)
        except OSError as err:
            if err.errno != errno.EADDRINUSE:
                break
        else:
            if candidate != port:
                taken = f"port {port} ({setting}) is taken by {holder(port)}"
                log.warning("%s: metrics are on port %d instead", taken, server.server_port)
            return server, thread
    require_free(host, port, setting)  # says what is wrong
    raise OSError(f"cannot listen on {host}:{port}")
