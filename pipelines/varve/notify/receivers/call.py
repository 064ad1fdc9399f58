"""What a receiver's function gets, and what such functions have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from varve.notify.driver import Result
from varve.notify.message import Message
from varve.notify.receivers.http_client import HttpClient, result_of
from varve.notify.templates import Rendering

IDEMPOTENCY_HEADER = "Idempotency-Key"
"""The same for every attempt at one message, also after a restart."""


@dataclass(frozen=True)
class Call:
    """One attempt at one message."""

    message: Message
    rendering: Rendering
    client: HttpClient
    external_url: str
    idempotency_key: str
    now_ms: Callable[[], int]
    memory: dict[str, Any]
    """Of the integration, for what holds between messages, such as an access token."""

    @property
    def resolved(self) -> bool:
        return self.message.status == "resolved"

    def text(self, template: str) -> str:
        return self.rendering.text(template)

    def texts(self, value: Any) -> Any:
        """A value with each text in it expanded, however deep."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.texts(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.texts(item) for item in value]
        return value

    async def post(self, url: str, body: Any, headers: Mapping[str, str] | None = None) -> Result:
        """Posts JSON, and what the answer's status means."""
        return result_of(await self.post_for_answer(url, body, headers))

    async def post_for_answer(
        self, url: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return await self.client.request("POST", url, json=body, headers=self.headers(headers))

    def headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {IDEMPOTENCY_HEADER: self.idempotency_key, **(more or {})}


def cut(text: str, length: int) -> str:
    """At most so many characters; an ellipsis says that there were more."""
    return text if len(text) <= length else text[: length - 1] + "…"


def cut_bytes(text: str, length: int) -> str:
    """At most so many bytes of UTF-8."""
    data = text.encode()
    if len(data) <= length:
        return text
    return data[: length - 3].decode(errors="ignore") + "…"


def given(**fields: Any) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value not in (None, "", (), [], {})}


def answer_json(response: httpx.Response) -> dict[str, Any]:
    """The object of an answer; empty if it is none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
