"""What an address of the query service is: who answers it, what it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from varve.access.credentials import Scope
from varve.api.call import Answer, Call

QUERIES: Final = "queries"
METADATA: Final = "metadata"
SQL: Final = "sql"
"""Threads that answer, each kind apart: a list of labels never waits behind queries."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that a function answers in a thread, from the newest view.

    `path` begins with a slash or is below /api/v1/.
    """

    path: str
    function: Callable[[Call], Answer]
    parameters: str
    help: str
    methods: tuple[str, ...] = ("GET",)
    media_types: tuple[str, ...] = ()
    """Of an answer; none for Prometheus' JSON."""
    takes_body: bool = False
    """Whether it is sent something that is no form."""
    pool: str = METADATA
    """Whose threads answer."""
    scope: Scope = Scope.READ
    """What somebody must be allowed to do."""
    reads_only_the_view: bool = False
    """Whether it asks nothing but the view, and can be asked again: what is known to take little
    is then answered on the event loop.
    """

    @property
    def address(self) -> str:
        return self.path if self.path.startswith("/") else f"/api/v1/{self.path}"

    @property
    def name(self) -> str:
        """What the metrics call it: the path, without parts that differ by request."""
        return self.path.removeprefix("/") if "{" not in self.path else "label_values"
