"""Who a request is from: a bearer token, or a user and password, or anybody if there are neither.

Source: RFC 6750, RFC 7617.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

import bcrypt

from varve.gateway.refusals import Refused

# A password is looked up here once it has been verified, which takes a tenth of a second and more.
_REMEMBERED = 1_024
# How many passwords are verified at once: no flood of wrong ones takes all cores.
_VERIFIED_AT_ONCE = 1


class Access:
    """Knows the tokens and users of the settings. Holds no token in the clear."""

    def __init__(self, tokens: Mapping[str, str], users: Mapping[str, str]) -> None:
        """tokens: by the name of who has it. users: bcrypt hashes of passwords, by the user."""
        self._tokens = {_digest(token): name for name, token in tokens.items()}
        self._users = dict(users)
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, str] = {}
        self._verifying = asyncio.Semaphore(_VERIFIED_AT_ONCE)

    @property
    def is_open(self) -> bool:
        """Whether anybody may write."""
        return not self._tokens and not self._users

    async def sender(self, authorization: str) -> str:
        """The name of who has the token, or of the user; "" if anybody may write. Raises Refused
        (401).
        """
        if self.is_open:
            return ""
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer":
            name = self._tokens.get(_digest(credentials.strip()))
            if name is not None:
                return name
        elif scheme.lower() == "basic" and self._users:
            return await self._user(credentials)
        raise Refused(401, "this gateway wants a bearer token or a user and password it knows")

    async def _user(self, credentials: str) -> str:
        try:
            user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            raise Refused(401, "the credentials are no user and password in base64") from None
        seal = hmac.digest(self._key, f"{user}:{password}".encode(), "sha256")
        known = self._verified.get(seal)
        if known is not None:
            return known
        hashed = self._users.get(user)
        async with self._verifying:
            # Verified for unknown users too: how long it takes tells nothing of who there is.
            matches = await asyncio.to_thread(
                _matches, password.encode()[:72], (hashed or _NOBODY).encode()
            )
        if hashed is None or not matches:
            raise Refused(401, "there is no such user, or the password is another one")
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[seal] = user
        return user


_NOBODY = bcrypt.hashpw(secrets.token_bytes(16).hex().encode(), bcrypt.gensalt(10)).decode()


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
