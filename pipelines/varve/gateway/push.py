"""What a protocol that senders push has to say to the gateway's HTTP application."""

from __future__ import annotations

import json
import math
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from varve.access.credentials import CHALLENGE
from varve.gateway.decoded import Decoded
from varve.gateway.refusals import Refusal, Refusals, Refused
from varve.gateway.write_request import Message

TEXT = (b"content-type", b"text/plain; charset=utf-8")
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class PushRequest:
    """The head of a request. media_type and encoding are lower case and "" if they are not said."""

    method: str
    path: str
    query: str = ""
    content_type: str = ""
    encoding: str = ""

    @property
    def media_type(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()

    @classmethod
    def of(cls, scope: MutableMapping[str, Any]) -> PushRequest:
        content_type = encoding = ""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value.decode("latin-1")
            elif name == b"content-encoding":
                encoding = value.decode("latin-1").strip().lower()
        query = scope.get("query_string", b"").decode("latin-1")
        return cls(scope["method"], scope["path"], query, content_type, encoding)


@dataclass
class Answer:
    """What a sender is told."""

    status: int
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Body(Protocol):
    """What is to come of a request, once its head was found to be right."""

    def message(self, body: bytes, most: int) -> Message:
        """The body as remote write. most: bytes it may expand to. Raises Refused."""

    def answer(self, found: Decoded, why: Refused | None) -> Answer:
        """That to a request whose samples are durable. why: why none of those of the bulk topic
        were taken, if they were not.
        """

    def refusal(self, refused: Refused) -> Answer:
        """That to a request of which nothing was taken."""


class PushProtocol(Protocol):
    """A protocol. State, if any, is for one event loop's thread."""

    @property
    def name(self) -> str:
        """As metrics have it."""

    def takes(self, request: PushRequest) -> bool:
        """Whether a request is one of this protocol, judged by its path and type of content."""

    def begin(self, request: PushRequest) -> Body:
        """Judges the head, before a byte of the body is read. Raises Refused."""


def text_answer(status: int, text: str) -> Answer:
    return Answer(status, text.encode(errors="replace"), [TEXT])


def json_answer(status: int, content: object) -> Answer:
    return Answer(status, json.dumps(content).encode(), [JSON])


def text_refusal(refused: Refused) -> Answer:
    """A refusal as plain text, with what its status wants of headers."""
    return with_hints(text_answer(refused.status, f"{refused}\n"), refused)


def with_hints(answer: Answer, refused: Refused) -> Answer:
    """The answer with the headers that a refusal's status wants."""
    if refused.retry_after_s:
        answer.headers.append((b"retry-after", b"%d" % max(1, math.ceil(refused.retry_after_s))))
    if refused.status == 401:
        answer.headers.append((b"www-authenticate", CHALLENGE.encode()))
    elif refused.status == 405:
        answer.headers.append((b"allow", b"POST"))
    return answer


def refused_in_part(refusals: Refusals) -> Refused | None:
    """What to tell of a request that was not taken whole; None if it was. All that is left of it
    was taken.
    """
    if not refusals.count:
        return None
    if Refusal.NEW_SERIES_QUOTA in refusals.samples:
        return Refused(429, refusals.text(), 1.0)
    return Refused(400, f"the rest was taken, but not: {refusals.text()}")
