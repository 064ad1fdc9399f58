"""Connects a kafka-python client, and says why where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka.errors import KafkaConfigurationError, KafkaError

from varve.model.errors import NeedsOperator, TemporaryError

T = TypeVar("T")

# The client keeps trying whatever the brokers say, and tells why in its log alone.
_LOGGER = "kafka.net"
_KEPT = 20
# Parts of what it says when trying again is no use, and the settings that would be.
_REFUSED = {
    "SaslAuthenticationFailed": "kafka.username and kafka.password",
    "UnsupportedSaslMechanism": "kafka.sasl_mechanism",
    "IllegalSaslState": "kafka.security_protocol and kafka.sasl_mechanism",
    "CERTIFICATE_VERIFY_FAILED": "kafka.ca_file",
    "WRONG_VERSION_NUMBER": "kafka.security_protocol",
}


def connect(client: Callable[..., T], options: Mapping[str, Any]) -> T:
    """A client made with the options, bootstrap_servers among them.

    Blocks for up to bootstrap_timeout_ms (30 s by default). Raises NeedsOperator if the brokers
    refuse who we are, we do not trust them, or options cannot be; TemporaryError if none answers.
    """
    servers = options.get("bootstrap_servers")
    with _overheard() as said:
        try:
            return client(**options)
        except (KafkaConfigurationError, AssertionError, OSError) as err:
            # Before anything is sent: options that contradict each other, a file that is not there.
            raise NeedsOperator(
                f"Kafka's client for {servers}: {err}; correct kafka.options"
            ) from err
        except KafkaError as err:
            words = [*said, str(err)]
            for mark, settings in _REFUSED.items():
                for text in words:
                    if mark in text:
                        raise NeedsOperator(
                            f"Kafka at {servers} cannot be used as it is set: {text}."
                            f" Correct {settings} (or kafka.options)"
                        ) from err
            why = said[-1] if said else str(err)
            raise TemporaryError(f"no Kafka at {servers}: {why}") from err


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """The latest warnings of the client while it connects."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            del said[:-_KEPT]

    listener = Listener(logging.WARNING)
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
