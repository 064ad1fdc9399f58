"""What every service that listens for others has: an address, who may come, a certificate."""

from __future__ import annotations

import ipaddress
from typing import ClassVar, Self

from pydantic import Field, model_validator

from varve.settings.section import Secret, Section


class Listener(Section):
    """Settings of a service over HTTP."""

    host: str = Field("127.0.0.1", min_length=1)
    """Address it listens on. Loopback: any other wants tokens, users or client_ca_file."""
    port: int = Field(0, ge=1, le=65535)
    """Port it listens on."""
    tokens: dict[str, Secret] = Field(default_factory=dict)
    """Bearer tokens by the name of who has it: as they are, or sha256:HEX of it, or env:NAME, or
    file:PATH. With any, requests without one are refused."""
    users: dict[str, Secret] = Field(default_factory=dict)
    """Passwords of users, as bcrypt hashes (`htpasswd -nBC 10 NAME` makes one), for clients that
    can only log in with a user and a password."""
    cert_file: str = ""
    """PEM file of the service's certificate; with it the service speaks TLS and nothing else."""
    key_file: str = ""
    """PEM file of its key."""
    client_ca_file: str = ""
    """PEM file of the certificates that sign those of clients, which then must have one (mTLS)."""

    _what_anybody_could: ClassVar[str] = "use it"

    @model_validator(mode="after")
    def _is_not_open_to_the_world(self) -> Self:
        if not _is_loopback(self.host) and not (self.tokens or self.users or self.client_ca_file):
            raise ValueError(
                f"host is {self.host}, and anybody who reaches it could {self._what_anybody_could}:"
                " set tokens, users or client_ca_file, or listen on 127.0.0.1"
            )
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        if self.client_ca_file and not self.cert_file:
            raise ValueError("client_ca_file is of no use without cert_file and key_file")
        return self

    def tokens_and_users(self) -> tuple[dict[str, str], dict[str, str]]:
        """What the tokens and the users' hashes are, in the clear, by name."""
        return (
            {name: token.get_secret_value() for name, token in self.tokens.items()},
            {name: hashed.get_secret_value() for name, hashed in self.users.items()},
        )

    def url(self) -> str:
        """The address of the service, without a slash at its end."""
        scheme = "https" if self.cert_file else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
