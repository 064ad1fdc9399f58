"""SQL over HTTP: one SELECT over the tables and views, in a process of its own."""

from __future__ import annotations

import math
import time

from varve.api.call import Answer, Body, Call
from varve.api.parameters import invalid
from varve.model.errors import BadRequest
from varve.promql.errors import QueryError
from varve.query.provenance import Provenance

ARROW = "application/vnd.apache.arrow.stream"


def sql(call: Call) -> Answer:
    """Answers with columns and rows, or with an Arrow stream for who accepts that and no JSON.

    Raises BadRequest, QueryError.
    """
    given, options = call.parameters, call.options
    processes = call.sql
    if processes is None:
        raise QueryError("SQL is off: query.sql = true turns it on")
    query = given.get("query")
    if not query.strip():
        raise invalid("query", "there is no statement in this SQL")
    if query.encode("utf-8", "replace").decode() != query or "\0" in query:
        raise BadRequest("this SQL is not in UTF-8")
    is_arrow = ARROW in call.accept
    answer = processes.run(
        query,
        "arrow" if is_arrow else "json",
        call.view.provenance.versions if given.get("as_of") else {},
        seconds=_left_s(options.deadline_s),
        check=options.check_running,
        take=options.memory.take,
    )
    provenance = Provenance(answer.versions, call.view.provenance.complete_until_ms)
    if is_arrow:
        return Answer(Body(answer.content, ARROW), provenance=provenance)
    return Answer(answer.content, provenance=provenance)


def _left_s(deadline_s: float) -> float:
    return 86_400.0 if math.isinf(deadline_s) else max(0.0, deadline_s - time.monotonic())
