"""Whether a port is free, and who has it if it is not."""

from __future__ import annotations

import errno
import socket

import psutil

from varve.model.errors import NeedsOperator
from varve.settings.environment import variable_of


def require_free(host: str, port: int, setting: str) -> None:
    """Raises NeedsOperator, naming the holder and the setting, if nobody could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((host, port))
        except OSError as err:
            raise NeedsOperator(_refusal(host, port, setting, err)) from err


def holder(port: int) -> str:
    """Who listens on a port, as in "java (pid 42)"; says so if this user may not know."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        connections = []
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                return f"a process that has just ended (pid {connection.pid})"
    return "a process of another user"


def _refusal(host: str, port: int, setting: str, err: OSError) -> str:
    variable = variable_of(setting)
    if err.errno == errno.EADDRINUSE:
        return (
            f"port {port} is taken by {holder(port)}: end that, or set {setting} to another port"
            f" ({variable}=...)"
        )
    if isinstance(err, socket.gaierror) or err.errno == errno.EADDRNOTAVAIL:
        # No port would do: the host is none of this machine's.
        setting = f"{setting.rpartition('.')[0]}.host"
        variable = variable_of(setting)
    return f"cannot listen on {host}:{port}: {err.strerror}; correct {setting} ({variable}=...)"
