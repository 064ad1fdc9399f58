"""Serves /metrics of a process that serves nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from varve.services.ports import require_free
from varve.telemetry.registry import Telemetry


@contextmanager
def serving(telemetry: Telemetry, host: str, port: int, setting: str) -> Iterator[str]:
    """The address of the page, served by a thread until the block ends. port 0: any free one.

    Raises NeedsOperator, naming the holder and the setting, if the port is taken.
    """
    try:
        server, thread = start_http_server(port, host, telemetry.registry)
    except OSError:
        require_free(host, port, setting)  # says what is wrong
        raise
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
