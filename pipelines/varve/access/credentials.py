"""Who a request is from: a bearer token, or a user and password, or anybody if there are neither.

Source: RFC 6750, RFC 7617.
"""

from __future__ import annotations

import asyncio
import base64
import enum
import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import bcrypt

from varve.model.errors import VarveError

CHALLENGE: Final = 'Bearer realm="varve", Basic realm="varve"'
"""The header WWW-Authenticate of an answer that asks for credentials."""

# A password is looked up here once it has been verified, which takes a tenth of a second and more.
_REMEMBERED = 1_024
# How many passwords are verified at once: no flood of wrong ones takes all cores.
_VERIFIED_AT_ONCE = 1
# How many more may wait for that.
_WAITING = 64
_HASHED_TOKEN = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Scope(enum.Enum):
    """What somebody may do."""

    READ = "read"
    ADMIN = "admin"
    """What changes something, ends a query, or tells of what others do."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request, and what they may do. The name is empty if anybody may."""

    name: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)


ANYBODY: Final = Principal()


class Unauthenticated(VarveError):
    """The credentials of a request are missing or wrong."""


class TooManyAttempts(VarveError):
    """More passwords wait to be verified than one core gets done soon."""


class Credentials:
    """Knows tokens by their SHA-256 and passwords by their bcrypt hash. For one event loop.

    No comparison takes longer for what is nearly right: of tokens digests are looked up, and a
    password is verified for users that do not exist as well.
    """

    def __init__(
        self,
        tokens: Mapping[str, str],
        users: Mapping[str, str],
        admins: Collection[str] | None = None,
    ) -> None:
        """tokens: by the name of who has it, as they are or as sha256:HEX. users: bcrypt hashes of
        passwords, by the user. admins: names of those that may do all; None for everybody.
        """
        self._tokens = {_stored_digest(token): name for name, token in tokens.items()}
        self._users = dict(users)
        self._admins = admins
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, str] = {}
        self._verifying = asyncio.Semaphore(_VERIFIED_AT_ONCE)
        self._waiting = 0

    @property
    def are_needed(self) -> bool:
        """Whether a request without credentials is refused."""
        return bool(self._tokens or self._users)

    async def principal(self, authorization: str) -> Principal:
        """Who the header Authorization names. Raises Unauthenticated or TooManyAttempts."""
        if not self.are_needed:
            return ANYBODY
        scheme, _, credentials = authorization.partition(" ")
        name = None
        if scheme.lower() == "bearer":
            name = self._tokens.get(_digest(credentials.strip()))
        elif scheme.lower() == "basic" and self._users:
            name = await self._user(credentials)
        if name is None:
            raise Unauthenticated("this service wants a bearer token, or a user and password")
        is_admin = self._admins is None or name in self._admins
        return Principal(name, frozenset(Scope) if is_admin else frozenset({Scope.READ}))

    async def _user(self, credentials: str) -> str:
        try:
            user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            raise Unauthenticated("the credentials are no user and password in base64") from None
        seal = hmac.digest(self._key, f"{user}:{password}".encode(), "sha256")
        known = self._verified.get(seal)
        if known is not None:
            return known
        if self._waiting >= _WAITING:
            raise TooManyAttempts("too many passwords are being verified: send again later")
        hashed = self._users.get(user)
        self._waiting += 1
        try:
            async with self._verifying:
                # Verified for unknown users too: the time it takes tells nothing of who there is.
                matches = await asyncio.to_thread(
                    _matches, password.encode()[:72], (hashed or _nobodys_hash()).encode()
                )
        finally:
            self._waiting -= 1
        if hashed is None or not matches:
            raise Unauthenticated("there is no such user, or the password is another one")
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[seal] = user
        return user


@functools.cache
def _nobodys_hash() -> str:
    return bcrypt.hashpw(secrets.token_bytes(16).hex().encode(), bcrypt.gensalt(10)).decode()


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _stored_digest(token: str) -> bytes:
    """The digest of a token of the settings, which may be one already."""
    found = _HASHED_TOKEN.fullmatch(token)
    return bytes.fromhex(found[1]) if found else _digest(token)
