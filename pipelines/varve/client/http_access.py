"""How the client speaks HTTP: who it is, and whose certificates it trusts."""

from __future__ import annotations

import ssl
from typing import NamedTuple

import httpx


class Login(NamedTuple):
    """token, or user with a password: who asks. verify: False, or a file of certificates, for a
    service whose certificate the machine does not know.
    """

    token: str = ""
    user: tuple[str, str] | None = None
    verify: bool | str = True


def http_client(login: Login, timeout_s: float) -> httpx.Client:
    headers = {"Authorization": f"Bearer {login.token}"} if login.token else {}
    verify = login.verify
    trusted = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
    return httpx.Client(headers=headers, auth=login.user, verify=trusted, timeout=timeout_s)


def retry_after_s(answer: httpx.Response) -> float:
    """After how many seconds the service asks to come again; 0 if it names none, or a date."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0
