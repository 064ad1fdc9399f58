"""Why a record is refused: the values of quarantine.reason."""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    MALFORMED = "malformed"
    """Not a message of a known format, or a record without the fields it needs."""
    MESSAGE_TOO_LARGE = "message_too_large"
    """Over the bound on the size of one message."""
    INVALID_LABEL = "invalid_label"
    """An empty metric or label name, or __name__ as a label."""
    UNKNOWN_SERIES = "unknown_series"
    """An Arrow sample whose series has no definition yet."""
    ID_COLLISION = "id_collision"
    """The series shares its id with another one that was there first."""
    TOO_OLD = "too_old"
    """Older than four fifths of the raw retention: it might not be rolled up exactly."""
    TOO_FAR_IN_FUTURE = "too_far_in_future"
    """Ahead of the clock by more than ingest.max_future_s."""
    LABEL_LIMIT = "label_limit"
    """A new series has too many labels, or too long ones: conf/limits.toml."""
    CARDINALITY_LIMIT = "cardinality_limit"
    """A new series of a metric that has as many as it may, or beyond the total."""
    SKIPPED = "skipped"
    """A message that an operator has parked with `varve ingest skip`: nobody has read it."""


LIMITS = frozenset({Reason.LABEL_LIMIT, Reason.CARDINALITY_LIMIT})
"""Reasons that come in storms: counted, with examples, instead of kept whole."""
