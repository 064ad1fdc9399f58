"""Why a query has no answer, in the terms of Prometheus' HTTP API."""

from __future__ import annotations

from typing import ClassVar, Literal

ErrorType = Literal["bad_data", "execution", "timeout", "canceled", "gone", "unavailable"]


class QueryError(Exception):
    """A query failed; the text is Prometheus' where there is one."""

    error_type: ClassVar[ErrorType] = "execution"


class BadQueryError(QueryError):
    """The query, or a parameter of it, can never succeed."""

    error_type = "bad_data"


class LimitError(QueryError):
    """The query would take more than a limit allows; the text names the limit."""


class QueryTimeoutError(QueryError):
    """The deadline passed."""

    error_type = "timeout"

    def __init__(self) -> None:
        super().__init__(
            "query timed out in query execution: it may take query.timeout_s, or less if the"
            " request says so"
        )


class QueryCanceledError(QueryError):
    """Someone cancelled the query."""

    error_type = "canceled"


class StorageError(QueryError):
    """The storage could not deliver."""
