"""What passes between the application and the function of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from varve.api.parameters import Parameters
from varve.query.evaluation import Options
from varve.query.provenance import Provenance
from varve.query.reader import Reader
from varve.query.view import View

TRUNCATED = "results truncated due to limit"
"""Prometheus' warning where an answer has fewer items than there are."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read and ready to be answered.

    `path` has the parts of the address that the endpoint names. `now_ms` is when the request came,
    Unix ms.
    """

    view: View
    parameters: Parameters
    options: Options
    now_ms: int
    path: Mapping[str, str] = field(default_factory=dict)

    @property
    def reader(self) -> Reader:
        """The view, read within the memory and the time of this call."""
        return Reader(self.view, self.options.memory, self.options.check_running)


@dataclass(frozen=True, slots=True)
class Answer:
    """The data of a successful answer, and the notes beside it.

    `data` is what json.dumps takes, or bytes that are JSON already. `samples` counts those that
    were read. `provenance` is that of the call's view unless it is given.
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
