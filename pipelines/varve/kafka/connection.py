"""Connections to Kafka: clients are made here, and why that failed is said here."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import KafkaAdminClient
from kafka.errors import KafkaConfigurationError, KafkaError

from varve.model.errors import NeedsOperator, TemporaryError

T = TypeVar("T")

# The client keeps trying whatever the brokers say, and tells why in its log alone.
_LOGGER = "kafka.net"
_REASON = re.compile(r"Bootstrap connection to \S+ failed: (.*?)(?: \(backoff [\d.]+ secs\))?$")
# What it says when trying again is no use, and the settings that would be.
_REFUSED = {
    "SaslAuthenticationFailed": "kafka.username and kafka.password",
    "UnsupportedSaslMechanism": "kafka.sasl_mechanism",
    "IllegalSaslState": "kafka.security_protocol and kafka.sasl_mechanism",
    "CERTIFICATE_VERIFY_FAILED": "kafka.ca_file",
    "WRONG_VERSION_NUMBER": "kafka.security_protocol",
}
# A refused login: brokers answer and hang up, and the client has only eyes for the latter. By then
# it knows their version.
_LOGIN_CUT = re.compile(r"broker_version=\(.*Connection lost: .*disconnected")
# What it says when one side speaks TLS and the other does not, among other things.
_HUNG_UP = ("disconnected", "reset by peer", "timed out")
_FILES = ("ssl_cafile", "ssl_certfile")


def connect(client: Callable[..., T], options: Mapping[str, Any]) -> T:
    """A client made with the options, bootstrap_servers among them.

    Blocks for up to bootstrap_timeout_ms (30 s by default). Raises NeedsOperator if the brokers
    refuse who we are, we do not trust them, or options cannot be; TemporaryError if none answers.
    """
    servers = options.get("bootstrap_servers")
    for file in (options[name] for name in _FILES if options.get(name)):
        if not os.access(file, os.R_OK):
            raise NeedsOperator(
                f"cannot read {file}, which Kafka's clients are to use: correct"
                " kafka.ca_file (or kafka.options)"
            )
    with _overheard() as said:
        try:
            return client(**options)
        except KafkaConfigurationError as err:
            raise NeedsOperator(f"Kafka's client: {err}; correct kafka.options") from err
        except KafkaError as err:
            reasons = [found[1] for text in said if (found := _REASON.match(text))]
            for mark, settings in _REFUSED.items():
                for reason in (*reasons, str(err)):
                    if mark in reason:
                        raise NeedsOperator(
                            f"Kafka at {servers} cannot be used as it is set: {reason}. Correct"
                            f" {settings} (or kafka.options)"
                        ) from err
            if options.get("sasl_mechanism") and any(map(_LOGIN_CUT.search, said)):
                raise NeedsOperator(
                    f"Kafka at {servers} hangs up during the login, as it does when it refuses one."
                    " Correct kafka.username, kafka.password or kafka.sasl_mechanism (or"
                    " kafka.options)"
                ) from err
            why = reasons[-1] if reasons else str(err)
            hint = ""
            if any(words in why for words in _HUNG_UP):
                hint = "; if it speaks TLS or wants a login, correct kafka.security_protocol"
            raise TemporaryError(f"no Kafka at {servers}: {why}{hint}") from err


def answers(bootstrap_servers: str, *, cluster: str | None = None, timeout_s: float = 1.0) -> bool:
    """Whether a broker, of that cluster if one is given, answers there within timeout_s seconds."""
    if not reachable(bootstrap_servers):
        return False
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers, bootstrap_timeout_ms=int(timeout_s * 1000)
        )
    except KafkaError:
        return False
    try:
        found = admin.describe_cluster()
        return bool(found["brokers"]) and cluster in (None, found["cluster_id"])
    except KafkaError:
        return False
    finally:
        admin.close()


def reachable(bootstrap_servers: str) -> bool:
    """Whether one of them accepts a connection within a second each."""
    return any(_accepts(server) for server in bootstrap_servers.split(","))


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Warnings of the client while it connects."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)


def _accepts(server: str) -> bool:
    host, _, port = server.strip().rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1.0):
            return True
    except OSError:
        return False
