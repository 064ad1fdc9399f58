"""Pushgateway's API: PUT, POST and DELETE of /metrics/job/NAME{/LABEL/VALUE}.

Source: prometheus/pushgateway, README.md, "API".
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from varve.gateway.content_encoding import plain_body
from varve.gateway.decoded import Decoded
from varve.gateway.exposition.formats import TEXT, parse
from varve.gateway.exposition.samples import InvalidExposition
from varve.gateway.push import Answer, PushRequest, refused_in_part, text_refusal
from varve.gateway.push_protocols.groups import GroupKey, Groups, InvalidPush
from varve.gateway.refusals import Malformed, Refused
from varve.gateway.write_request import Message

_PREFIX = "/metrics/job"
_BASE64 = "@base64"


class Pushgateway:
    """Groups that are pushed are shown until they are deleted: `groups` has them."""

    name = "pushgateway"

    def __init__(self, groups: Groups, now_ms: Callable[[], int]) -> None:
        self._groups = groups
        self._now_ms = now_ms

    def takes(self, request: PushRequest) -> bool:
        return is_of_group(request)

    def begin(self, request: PushRequest) -> _Body:
        if request.method not in ("PUT", "POST", "DELETE"):
            raise Refused(405, "a group is changed by PUT, POST and DELETE")
        return _Body(self._groups, group_key(request.path), request, self._now_ms())


def is_of_group(request: PushRequest) -> bool:
    """Whether a request is about a group."""
    return request.path.startswith((f"{_PREFIX}/", f"{_PREFIX}{_BASE64}/"))


def group_key(path: str) -> GroupKey:
    """The labels of a group, as a path has them, decoded. Raises Malformed.

    >>> group_key("/metrics/job/backup/instance@base64/YS9i")
    (('instance', 'a/b'), ('job', 'backup'))
    """
    parts = path.removeprefix("/metrics/").split("/")
    if len(parts) % 2:
        raise Malformed("a group is /metrics/job/NAME, and then labels and their values by turns")
    found: dict[str, str] = {}
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        label = name.removesuffix(_BASE64)
        if not label or label == "__name__" or label in found:
            raise Malformed(f"{label!r} is no label of a group, or comes twice")
        found[label] = _decoded(value) if name.endswith(_BASE64) else value
    if not found["job"]:
        raise Malformed("the job has no name")
    return tuple(sorted((name, value) for name, value in found.items() if value))


def _decoded(value: str) -> str:
    """What is in base64 for URLs; "=" alone stands for an empty text."""
    bare = value.rstrip("=")
    try:
        padded = bare + "=" * (-len(bare) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError as err:
        raise Malformed(f"{value[:60]!r} is no UTF-8 in base64: {err}") from None


@dataclass(frozen=True, slots=True)
class _Body:
    groups: Groups
    key: GroupKey
    request: PushRequest
    now_ms: int

    def message(self, body: bytes, most: int) -> Message:
        if self.request.method == "DELETE":
            return self.groups.delete(self.key, self.now_ms).message()
        content = plain_body(body, self.request.encoding, most)
        replaces_all = self.request.method == "PUT"
        try:
            found = parse(content, self.request.content_type, fallback=TEXT)
            pushed = self.groups.push(self.key, found, self.now_ms, replaces_all=replaces_all)
        except (InvalidExposition, InvalidPush) as bad:
            self.groups.note_failure(self.key, self.now_ms)
            raise Malformed(str(bad)) from bad
        return pushed.message()

    def answer(self, found: Decoded, why: Refused | None) -> Answer:
        refused = why or refused_in_part(found.refusals)
        if refused:
            return text_refusal(refused)
        return Answer(202 if self.request.method == "DELETE" else 200)

    def refusal(self, refused: Refused) -> Answer:
        return text_refusal(refused)
