"""What passes between the application and the function of an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from varve.api.parameters import Parameters
from varve.promql.storage import Storage
from varve.query.derived_storage import storage_of
from varve.query.evaluation import Options
from varve.query.provenance import Provenance
from varve.query.reader import Reader
from varve.query.sql_processes import SqlProcesses
from varve.query.view import View
from varve.storage.store import Store

TRUNCATED = "results truncated due to limit"
"""Prometheus' warning where an answer has fewer items than there are."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the process can say of itself.

    `started_ms` is Unix ms. `config` is every setting in force, as YAML. `flags` are settings under
    Prometheus' names. `memory_bytes` is what it may hold.
    """

    started_ms: int = 0
    config: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    usage: Callable[[int], Mapping[str, Any]] | None = None
    """What the stored bytes are spent on, by the length of its lists; None where none can tell."""


AskServices = Callable[[str], tuple[list[Any], list[str]]]
"""What each service of a kind says under an address below /api/v1/, and who does not answer and
why.
"""


def no_services(_path: str) -> tuple[list[Any], list[str]]:
    """There are no such services."""
    return [], []


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read and ready to be answered.

    `path` has the parts of the address that the endpoint names. `now_ms` is when the request came,
    Unix ms. `process` is what answers. `accept` is the header of that name.
    `body` is what was sent to an endpoint that takes no form. `sql` runs statements; None
    where none are run. `rules` asks the rules services, `scraping` those
    that scrape. `store` is where the tables lie, for what is in none of the view; None where there
    is only a view.
    """

    view: View
    parameters: Parameters
    options: Options
    now_ms: int
    process: Process
    path: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""
    body: bytes = b""
    sql: SqlProcesses | None = None
    rules: AskServices = no_services
    scraping: AskServices = no_services
    store: Store | None = None

    @property
    def reader(self) -> Reader:
        """The view, read within the memory, the time and the limit on samples of this call."""
        options = self.options
        most = options.limits.max_samples
        return Reader(self.view, options.memory, options.check_running, most)

    @property
    def storage(self) -> Storage:
        """The same with derived metrics."""
        return storage_of(self.reader)


@dataclass(frozen=True, slots=True)
class Body:
    """A whole answer that is no JSON of Prometheus' API."""

    content: bytes
    media_type: str
    encoding: str = ""
    """Of the content; without one, it is compressed for a client that takes that."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The data of a successful answer, and the notes beside it.

    `data` is what json.dumps takes, or bytes that are JSON already, or a Body, which has no notes.
    `samples` counts those that were read. `provenance` is that of the call's view unless it is
    given.
    """

    data: Any
    warnings: Sequence[str] = ()
    infos: Sequence[str] = ()
    samples: int = 0
    provenance: Provenance | None = None


def limited(items: Sequence[Any], most: int) -> Answer:
    """The first `most` items, with a warning if there are more; all if it is 0."""
    if most and len(items) > most:
        return Answer(items[:most], [TRUNCATED])
    return Answer(items)
