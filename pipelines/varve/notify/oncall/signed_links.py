"""Links by which whoever is told of an alert acknowledges it, without an account.

A link says what it acknowledges, for whom, as of when, and until when it can be used; an HMAC
(SHA-256) over that says that a notifier made it. Notifiers of one cluster have the same key file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlencode

PATH: Final = "/acknowledge"
LEAST_KEY_BYTES: Final = 16

Kind = Literal["alert", "group"]


class BadLinkError(ValueError):
    """A link that was not made here, was changed, or can be used no longer."""


@dataclass(frozen=True, slots=True)
class Acknowledging:
    """What a link does.

    id: the fingerprint of an alert, or the hash of a group's key, hexadecimal. as_of_ms: what began
    to fire later is not meant. by: who is told, and takes care by following the link.
    """

    kind: Kind
    id: str
    by: str
    as_of_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class SignedLinks:
    """Makes links that can be used for valid_ms, and reads them."""

    key: bytes = field(repr=False)
    valid_ms: int

    def link(self, external_url: str, kind: Kind, name: str, by: str, at_ms: int) -> str:
        """The address of a link in a message of at_ms, Unix ms."""
        said = Acknowledging(kind, name, by, at_ms, at_ms + self.valid_ms)
        return f"{external_url}{PATH}?{urlencode(self.query(said))}"

    def query(self, said: Acknowledging) -> dict[str, str]:
        """The parameters of a link."""
        return {
            said.kind: said.id,
            "by": said.by,
            "as_of": str(said.as_of_ms),
            "until": str(said.until_ms),
            "signature": self._signature(said),
        }

    def read(self, query: Mapping[str, str], now_ms: int) -> Acknowledging:
        """What a link does, by its parameters. Raises BadLinkError; the text is for whoever
        followed it.
        """
        kind: Kind = "group" if "group" in query else "alert"
        try:
            said = Acknowledging(
                *(kind, query[kind], query["by"], int(query["as_of"]), int(query["until"]))
            )
            given = query["signature"].encode()
        except (KeyError, ValueError):
            raise BadLinkError("this is not a whole link: copy all of it") from None
        if not hmac.compare_digest(self._signature(said).encode(), given):
            raise BadLinkError("this link was not made here, or was changed on its way")
        if now_ms > said.until_ms:
            raise BadLinkError("this link is too old: acknowledge on the page of alerts")
        return said

    def _signature(self, said: Acknowledging) -> str:
        # Lengths keep a field from reaching into the next one.
        parts = (said.kind, said.id, said.by, str(said.as_of_ms), str(said.until_ms))
        text = "".join(f"{len(part)}:{part}" for part in parts)
        made = hmac.new(self.key, text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(made).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class MessageLinks:
    """The links of one message; none are there without a key."""

    links: SignedLinks | None
    external_url: str
    by: str
    at_ms: int

    def of_group(self, group_hash: str) -> str:
        return self._link("group", group_hash)

    def of_alert(self, fingerprint: int) -> str:
        return self._link("alert", f"{fingerprint:016x}")

    def _link(self, kind: Kind, name: str) -> str:
        if self.links is None:
            return ""
        return self.links.link(self.external_url, kind, name, self.by, self.at_ms)
