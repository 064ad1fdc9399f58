"""Alerts as senders give them: what is refused and filled in, and how two of one are merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from varve.notify.matchers import CLASSIC_NAME, Mode
from varve.notify.records import Alert, Key


class BadAlert(ValueError):
    """An alert is refused; the text says why."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One alert of a request; times in ms, None where the sender gave none."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_ms: int | None = None
    ends_ms: int | None = None
    generator_url: str = ""


def label_key(labels: Mapping[str, str]) -> Key:
    """The identity of a label set: an empty label is no label."""
    if "" in labels.values():
        return tuple(sorted((name, value) for name, value in labels.items() if value))
    return tuple(sorted(labels.items()))


def check(sending: Sending, mode: Mode, *, labels_known: bool) -> None:
    """Raises BadAlert if the alert cannot be taken. labels_known: they were checked before."""
    if not labels_known:
        if not any(sending.labels.values()):
            raise BadAlert("at least one label pair required")
        _check_names("label", sending.labels, mode)
    if sending.annotations:
        _check_names("annotation", sending.annotations, mode)
    starts_ms, ends_ms = sending.starts_ms, sending.ends_ms
    if starts_ms is not None and ends_ms is not None and ends_ms < starts_ms:
        raise BadAlert("start time must be before end time")


def received(
    sending: Sending, key: Key, *, alert_id: int, now_ms: int, resolve_timeout_ms: int
) -> Alert:
    """The alert; what its sender left out is now for a start, resolve_timeout later for an end."""
    starts_ms, ends_ms = sending.starts_ms, sending.ends_ms
    if starts_ms is None:
        starts_ms = now_ms if ends_ms is None else ends_ms
    return Alert(
        id=alert_id,
        labels=key,
        annotations=dict(sending.annotations),
        starts_ms=starts_ms,
        ends_ms=now_ms + resolve_timeout_ms if ends_ms is None else ends_ms,
        updated_ms=now_ms,
        timeout=ends_ms is None,
        generator_url=sending.generator_url,
        fingerprint=0,
    )


def merged(old: Alert, new: Alert) -> Alert:
    """One alert of two that two senders, or one, gave for a label set; `new` came later.

    If their times overlap it began with the earlier, and its end is: the later of two that are
    past, the new one if it is past, else the later unless that was only a timeout.
    """
    overlap = old.starts_ms < new.ends_ms < old.ends_ms or (
        old.starts_ms < new.starts_ms < old.ends_ms
    )
    if not overlap:
        return new
    ends_ms = new.ends_ms
    if old.ends_ms > ends_ms and (
        old.resolved_at(new.updated_ms) if new.resolved_at(new.updated_ms) else not old.timeout
    ):
        ends_ms = old.ends_ms
    return Alert(
        id=new.id,
        labels=new.labels,
        annotations=new.annotations,
        starts_ms=min(old.starts_ms, new.starts_ms),
        ends_ms=ends_ms,
        updated_ms=new.updated_ms,
        timeout=new.timeout,
        generator_url=new.generator_url,
        fingerprint=new.fingerprint,
    )


def _check_names(what: str, names: Mapping[str, str], mode: Mode) -> None:
    if "" in names:
        raise BadAlert(f"invalid {what} name ''")
    if mode is Mode.CLASSIC:
        for name in names:
            if not CLASSIC_NAME.fullmatch(name):
                raise BadAlert(f"invalid {what} name {name!r}")
