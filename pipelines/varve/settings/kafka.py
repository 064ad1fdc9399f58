"""Kafka: the broker that `varve up` starts, or one of your own; the topics."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from varve.settings.section import Secret, Section


class Topics(Section):
    raw: str = "raw-metrics"
    """Samples of the bulk query."""
    critical: str = "raw-metrics-critical"
    """Samples that a storm on the bulk topic must not delay."""
    histograms: str = "raw-histograms"
    """Native histograms that the gateway takes. Empty: it refuses them, and none are stored."""
    exemplars: str = "raw-exemplars"
    """Exemplars that it takes; the same."""
    leaders: str = "gateway-leaders"
    """Where gateways agree which replica of a pair leads: one partition. Where it is missing each
    decides by itself."""
    series: str = "metric-series"
    """Definitions of series, for producers that send Arrow without them."""
    anomalies: str = "metric-anomalies"
    """What happens to episodes: stretches of minutes far from what is usual."""
    alerts: str = "alerts"
    """Where rules report changes of an alert's state."""


class Kafka(Section):
    bootstrap_servers: str = ""
    """host:port, comma separated. Empty: `varve up` starts its own broker on loopback."""
    port: int = Field(9092, ge=1, le=65535)
    """Port of the broker that `varve up` starts. 9092 as everywhere."""
    controller_port: int = Field(9093, ge=1, le=65535)
    """Controller port of that broker. 9093, next to it."""
    partitions: int = Field(4, ge=1, le=10_000)
    """Partitions of a topic that Varve creates. 4: two cores and room to double."""
    retention_s: int = Field(7_200, gt=0)
    """Seconds the broker that `varve up` starts keeps a message that is stored; one that is not
    stays for longer, within retention_bytes. 2 h: time to look at what came."""
    retention_bytes: int = Field(1_000_000_000, gt=0)
    """Bytes it keeps, all topics together. 1 GB: a laptop's disk."""
    heap_mb: int = Field(512, ge=128)
    """Its Java heap in MiB. 512: room for one machine's load, the rest is disk cache."""
    security_protocol: str = Field("", pattern="^(|PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$")
    """How the brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. Empty:
    PLAINTEXT."""
    sasl_mechanism: str = Field("", pattern="^(|PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$")
    """How Varve proves who it is, with SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    username: str = ""
    """Who it is."""
    password: Secret = SecretStr("")
    """Its password: as it is, or env:NAME, or file:PATH."""
    ca_file: str = ""
    """PEM file of the certificates that sign those of the brokers. Empty: those the system trusts
    and Java brings."""
    on_truncation: str = Field("refuse", pattern="^(refuse|reread)$")
    """refuse: when a partition's log was cut below what was stored of it (a power cut under a
    broker that does not sync, an unclean election) and offsets were given again, stop and say so.
    reread: read it again from there on; copies merge."""
    topics: Topics = Topics()
    options: dict[str, Secret] = Field(default_factory=dict)
    """Further options of Kafka clients by Kafka's names (ssl.keystore.location, ...); in a variable
    of the environment with underscores for dots."""

    @field_validator("options", mode="before")
    @classmethod
    def _dotted(cls, options: object) -> object:
        if not isinstance(options, dict):
            return options
        return {str(name).replace("_", "."): value for name, value in options.items()}

    def servers(self) -> str:
        """The brokers' addresses: those that are set, else that of the one `varve up` starts."""
        return self.bootstrap_servers or f"127.0.0.1:{self.port}"

    @model_validator(mode="after")
    def _login_is_whole(self) -> Kafka:
        twice = sorted(self._login().keys() & self.options.keys())
        if twice:
            raise ValueError(f"options has {', '.join(twice)}, which another setting says already")
        protocol = self.security_protocol or self.client_options().get("security.protocol", "")
        login = {"sasl_mechanism": self.sasl_mechanism, "username": self.username}
        login["password"] = self.password.get_secret_value()
        given = [name for name, value in login.items() if value]
        if given and not protocol.startswith("SASL_"):
            raise ValueError(
                f"{given[0]} is of no use without security_protocol SASL_SSL or SASL_PLAINTEXT"
            )
        if self.security_protocol.startswith("SASL_") and not any(
            name.startswith("sasl.") for name in self.options
        ):
            for name, value in login.items():
                if not value:
                    raise ValueError(f"{name} is missing: security_protocol is {protocol}")
        if self.ca_file and not protocol.endswith("SSL"):
            raise ValueError("ca_file is of no use without security_protocol SSL or SASL_SSL")
        return self

    def client_options(self) -> dict[str, str]:
        """Options of Kafka clients by Kafka's names.

        Secrets are in the clear: pass them to a client's constructor and to nothing else.
        """
        return self._login() | {k: v.get_secret_value() for k, v in self.options.items()}

    def _login(self) -> dict[str, str]:
        """The settings that have names of their own, as options by Kafka's names."""
        found = {"security.protocol": self.security_protocol, "sasl.mechanism": self.sasl_mechanism}
        if self.username:
            module = "scram.Scram" if self.sasl_mechanism.startswith("SCRAM") else "plain.Plain"
            user, password = map(_quoted, (self.username, self.password.get_secret_value()))
            found["sasl.jaas.config"] = (
                f"org.apache.kafka.common.security.{module}LoginModule required"
                f" username={user} password={password};"
            )
        if self.ca_file:
            path = str(Path(self.ca_file).expanduser().absolute())
            found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": path}
        return {name: value for name, value in found.items() if value}


def _quoted(text: str) -> str:
    """Quotes a text as Java's login configurations do."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
