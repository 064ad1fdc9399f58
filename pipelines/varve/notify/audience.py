"""What of a group may be told now, and to whom."""

from __future__ import annotations

from varve.notify.config.load import NamedIntegration
from varve.notify.groups import Group
from varve.notify.message import ToldAlert
from varve.notify.state import State


def log_key(integration: NamedIntegration, group: Group) -> str:
    """What the notification log knows an integration and a group by."""
    return f"{integration.key}:{group.key}"


def waited_ms(state: State, heard: list[ToldAlert], now_ms: int) -> int | None:
    """For how long something has fired that nobody has acknowledged; None if nothing does."""
    since = [
        one.alert.starts_ms for one in heard if one.firing and not state.acknowledged_by(one.alert)
    ]
    return max(0, now_ms - min(since)) if since else None


def integrations(
    state: State, group: Group, heard: list[ToldAlert], waited_ms: int | None, now_ms: int
) -> tuple[NamedIntegration, ...]:
    """Who is told of a group now: its receiver, and whoever the chain of that has reached."""
    receiver = group.route.receiver
    receivers = state.config.receivers
    if receiver not in state.on_call.chains:
        return receivers[receiver]
    names = state.on_call.receivers(receiver, waited_ms, now_ms)
    found = [one for name in names for one in receivers[name]]
    if not any(one.firing for one in heard):
        # Whoever was told that it fires is told that it is over.
        found += [
            one
            for name in state.on_call.everybody(receiver)
            for one in receivers[name]
            if name not in names and state.log.get(log_key(one, group), now_ms) is not None
        ]
    return tuple(found)


def not_muted(state: State, group: Group, told: list[ToldAlert], now_ms: int) -> list[ToldAlert]:
    """What of a group may be told at a time."""
    if state.muted_by(group, now_ms) is not None:
        return []
    heard = []
    for one in told:
        labels = group.members[one.alert.id].labels
        if state.inhibitor.inhibited_by(labels, now_ms):
            continue
        if state.silences.covering(one.alert.id, labels, now_ms) and not (
            state.on_call.silenced_ends and _has_ended_since_told(state, group, one, now_ms)
        ):
            continue
        heard.append(one)
    return heard


def _has_ended_since_told(state: State, group: Group, one: ToldAlert, now_ms: int) -> bool:
    """Whether somebody was told of a group's alert that it fires, and it is over."""
    if one.firing:
        return False
    logged = (
        state.log.get(log_key(integration, group), now_ms)
        for name in state.on_call.everybody(group.route.receiver)
        for integration in state.config.receivers[name]
    )
    return any(told is not None and one.alert.fingerprint in told.firing for told in logged)
