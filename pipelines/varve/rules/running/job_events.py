"""Events of the topic alerts as rows of the table (schemas/wire/alert-event.schema.json)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from varve.model.errors import VarveError
from varve.rules.label_sets import ALERT_NAME

_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: later times cannot be written as dates."""

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=_LAST_MS)]


class RefusedEvent(VarveError):
    """A message that is no alert event. The text says why."""


class _Event(msgspec.Struct, frozen=True):
    event_id: _Text
    fingerprint: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16,}$")]
    rule: _Text
    state: Literal["pending", "firing", "resolved", "inactive"]
    labels: dict[_Text, str]
    annotations: dict[str, str]
    starts_at: _Time
    evaluated_at: _Time
    value: float | Literal["NaN", "+Inf", "-Inf"] | None = None
    ends_at: _Time | None = None
    snapshot: str | None = None
    rule_group: str | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode


def event_row(value: bytes | None) -> dict[str, Any] | None:
    """The row of the table alerts for an event of a job; None for one of rules, whose row whoever
    evaluated them writes. Raises RefusedEvent.
    """
    try:
        event = _decode(value or b"")
    except msgspec.DecodeError as err:
        raise RefusedEvent(str(err)) from None
    if not event.labels.get(ALERT_NAME):
        raise RefusedEvent(f"the alert has no label {ALERT_NAME}")
    if event.rule_group is not None:
        return None
    row = {name: getattr(event, name) for name in event.__struct_fields__}
    return row | {
        "value": None if event.value is None else float(event.value),
        "incomplete": None,
        "late": None,
        "review": None,
    }
