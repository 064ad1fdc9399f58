"""What can go wrong, by what its reader has to do. Anything else crashes the component."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from varve.model.exceeded import Exceeded


class VarveError(Exception):
    """Root of every error raised on purpose. The text is one sentence for a person."""


class BadRecord(VarveError):
    """Can never succeed: one quarantine row. `reason` is a member of ingest.reject_reasons."""

    def __init__(self, reason: str, detail: str, exceeded: Exceeded | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.exceeded = exceeded


class BadRequest(VarveError):
    """The caller asked for something that has no answer; the text says what is wrong with it."""


class TemporaryError(VarveError):
    """May succeed later: tried a bounded number of times, then raised."""


class StorageFull(TemporaryError, OSError):
    """There is no room for a file; nothing of it was left behind. An OSError, too, as every other
    failure of the storage is one, with its errno.
    """


class Conflict(VarveError):
    """A rival committed first. Nothing was written: plan again from the table."""


class NeedsOperator(VarveError):
    """Going on would lose or falsify data, or cannot work at all. The text says what to do."""
