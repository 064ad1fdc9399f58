"""A broker as companies run it: TLS, logins by PLAIN and SCRAM, and nobody may do more than is
allowed to him.
"""

from __future__ import annotations

from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.certificates import write_certificates
from varve.local.broker import HOST, Broker, free_port

# Quotes and backslashes, which every configuration on the way must carry through.
PASSWORD = 'hush "never\\shown'
READER, WRITER = "varve-reader", "varve-writer"


class Estate:
    """A running broker, its listeners, and what a client needs to trust it."""

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        keystore = folder / "broker.pem"
        write_certificates(self.ca_file, keystore)
        self._ports = {name: free_port() for name in ("PLAINTEXT", "SSL", "SASL_SSL")}
        controller = free_port()
        addresses = [f"{name}://{HOST}:{port}" for name, port in self._ports.items()]
        protocols = [f"{name}:{name}" for name in self._ports]
        jaas = "listener.name.sasl_ssl.{}.sasl.jaas.config"
        module = "org.apache.kafka.common.security.{}LoginModule required"
        users = " ".join(f'user_{user}="{_escaped(PASSWORD)}"' for user in (READER, WRITER))
        self.broker = Broker(
            folder / "broker",
            port=self._ports["PLAINTEXT"],
            controller_port=controller,
            extra={
                "listeners": ",".join([*addresses, f"CONTROLLER://{HOST}:{controller}"]),
                "advertised.listeners": ",".join(addresses),
                "listener.security.protocol.map": ",".join(["CONTROLLER:PLAINTEXT", *protocols]),
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(keystore),
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
                jaas.format("plain"): _property(f"{module.format('plain.Plain')} {users};"),
                jaas.format("scram-sha-256"): f"{module.format('scram.Scram')};",
                jaas.format("scram-sha-512"): f"{module.format('scram.Scram')};",
                "authorizer.class.name": (
                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
                ),
                # Whoever comes without TLS: the tests themselves.
                "super.users": "User:ANONYMOUS",
            },
        )

    def start(self) -> None:
        self.broker.start()
        try:
            self._add_users()
        except BaseException:
            self.broker.stop()
            raise

    def _add_users(self) -> None:
        """With logins by SCRAM; those by PLAIN are in the broker's properties."""
        admin = self.admin()
        for user in (READER, WRITER):
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
                added = UserScramCredentialUpsertion(user, mechanism, PASSWORD)
                answers = admin.alter_user_scram_credentials([added])
                assert not any(answers.values()), answers
        admin.close()

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)

    def servers(self, listener: str) -> str:
        return f"{HOST}:{self._ports[listener]}"

    def allow(self, user: str, topic: str, *operations: ACLOperation) -> None:
        admin = self.admin()
        made = admin.create_acls(
            [
                ACL(
                    f"User:{user}",
                    "*",
                    operation,
                    ACLPermissionType.ALLOW,
                    ResourcePattern(ResourceType.TOPIC, topic),
                )
                for operation in operations
            ]
        )
        assert not made["failed"], made
        admin.close()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _property(text: str) -> str:
    return text.replace("\\", "\\\\")
