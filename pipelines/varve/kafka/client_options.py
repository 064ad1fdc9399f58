"""Where a Kafka cluster is and how clients reach it: for kafka-python and for Spark's source.

One set of options by Kafka's own names serves both: Spark takes them as they are, kafka-python has
other names. Source: Kafka's producer configuration; kafka-python 3, KafkaProducer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from varve.model.errors import NeedsOperator

_JAAS = "sasl.jaas.config"
_ENDPOINT = "ssl.endpoint.identification.algorithm"
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_PLAIN_LOGINS = ("PlainLoginModule", "ScramLoginModule")
_SAME_MEANING = {
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.kerberos.service.name": "sasl_kerberos_service_name",
    "client.id": "client_id",
    "client.dns.lookup": "client_dns_lookup",
    "ssl.truststore.location": "ssl_cafile",
    "ssl.keystore.location": "ssl_certfile",
    "ssl.key.password": "ssl_password",
}
_STORES = {
    "ssl.truststore.location": "ssl.truststore.type",
    "ssl.keystore.location": "ssl.keystore.type",
}
# Options that only the Java consumer knows, with which Spark reads: nothing in Python needs them.
_JAVA_CONSUMER = frozenset(
    {
        "check.crcs",
        "client.rack",
        "default.api.timeout.ms",
        "fetch.max.bytes",
        "fetch.max.wait.ms",
        "fetch.min.bytes",
        "group.id",
        "heartbeat.interval.ms",
        "isolation.level",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "max.poll.records",
        "receive.buffer.bytes",
        "send.buffer.bytes",
        "session.timeout.ms",
        "socket.connection.setup.timeout.max.ms",
        "socket.connection.setup.timeout.ms",
    }
)
_NUMBERS = {
    "request.timeout.ms": "request_timeout_ms",
    "connections.max.idle.ms": "connections_max_idle_ms",
    "reconnect.backoff.ms": "reconnect_backoff_ms",
    "reconnect.backoff.max.ms": "reconnect_backoff_max_ms",
    "retry.backoff.ms": "retry_backoff_ms",
    "metadata.max.age.ms": "metadata_max_age_ms",
}


# After every poll Spark asks the broker twice for the ends of the partition, so a poll has to bring
# many messages; and Spark keeps them for minutes. So a fetch is what bounds their memory, at 1 MiB
# as the broker has them: some 40 messages of Arrow, or 5,000 of one object. With 20 messages a poll
# these took the broker and the JVM twice as long as all else.
_SPARK_READS = {
    "kafka.max.partition.fetch.bytes": str(2**20),
    "kafka.max.poll.records": "1000",
    # What a producer has aborted it never sent.
    "kafka.isolation.level": "read_committed",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster. bootstrap_servers: host:port, comma separated. options: further options of
    its clients by Kafka's names; they may hold secrets and are never shown.
    """

    bootstrap_servers: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def python_options(self) -> dict[str, Any]:
        """The arguments of a kafka-python client. Raises NeedsOperator like `client_options`."""
        return {"bootstrap_servers": self.bootstrap_servers} | client_options(self.options)

    def spark_options(self) -> dict[str, str]:
        """The options of Spark's Kafka source."""
        given = {f"kafka.{name}": value for name, value in self.options.items()}
        return {"kafka.bootstrap.servers": self.bootstrap_servers} | _SPARK_READS | given


def client_options(options: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a kafka-python client for Kafka's options; those that only tune how Spark
    reads are left out.

    Raises NeedsOperator for any other that has no counterpart: leaving it out could mean sending
    in the clear.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in _SAME_MEANING:
            _require_pem(name, options)
            if name == "security.protocol" and value not in _PROTOCOLS:
                # The Python client would take it for PLAINTEXT.
                raise NeedsOperator(
                    f"kafka.options: {name} is one of {', '.join(_PROTOCOLS)}, not {value}"
                )
            found[_SAME_MEANING[name]] = value
        elif name in _NUMBERS:
            found[_NUMBERS[name]] = _number(name, value)
        elif name == _JAAS:
            found |= _login(value)
        elif name == _ENDPOINT:
            found["ssl_check_hostname"] = value != ""
        elif name not in _STORES.values() and name not in _JAVA_CONSUMER:
            known = sorted([*_SAME_MEANING, *_NUMBERS, _JAAS, _ENDPOINT, *_JAVA_CONSUMER])
            raise NeedsOperator(
                f"kafka.options: {name} is not an option Varve can honour; there are "
                + ", ".join(known)
            )
    return found


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise NeedsOperator(f"kafka.options: {name} is a whole number, not {value}") from None


def _require_pem(name: str, options: Mapping[str, str]) -> None:
    if name in _STORES and options.get(_STORES[name], "JKS").upper() != "PEM":
        raise NeedsOperator(
            f"kafka.options: {name} must be a PEM file, and {_STORES[name]} say PEM:"
            " Python reads no Java key stores"
        )


def _login(jaas: str) -> dict[str, str]:
    values = dict(re.findall(r'(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"', jaas))
    if not any(m in jaas for m in _PLAIN_LOGINS) or not {"username", "password"} <= values.keys():
        raise NeedsOperator(
            f"kafka.options: {_JAAS} must name PlainLoginModule or ScramLoginModule with a username"
            " and a password"
        )
    plain = {k: re.sub(r"\\(.)", r"\1", v) for k, v in values.items()}
    return {
        "sasl_plain_username": plain["username"],
        "sasl_plain_password": plain["password"],
    }
