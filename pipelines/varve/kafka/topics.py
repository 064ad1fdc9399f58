"""Topics: made where missing, and on our own broker kept within the disk the settings allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import AuthorizationError, TopicAlreadyExistsError

from varve.model.errors import NeedsOperator

# Segments of a partition: only whole ones expire, so more of them follow the bound more closely.
_SEGMENTS = 8
_LEAST_SEGMENT = 2**20
_GREATEST_SEGMENT = 64 * 2**20
# What Kafka adds to a message in a batch of its own, generously.
_BATCH_OVERHEAD = 4_096


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic that should exist. share: its part (0 to 1) of the bytes that all topics may take.

    message_bytes: length of the longest message it must take; Kafka refuses one longer than a
    segment.
    """

    name: str
    partitions: int
    share: float = 0.0
    message_bytes: int = 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What our own broker keeps: each message for so long, all topics together so many bytes."""

    retention_ms: int
    retention_bytes: int


def ensure_topics(
    admin: KafkaAdminClient, plans: Iterable[TopicPlan], *, bounds: Bounds | None = None
) -> list[str]:
    """Creates what is missing and returns its names; partitions of existing topics are left.

    bounds: set on every topic, new or old; None leaves that to whoever runs the cluster.
    Blocks until each new topic has leaders. Raises KafkaError, and NeedsOperator if this user may
    not create what is missing.
    """
    wanted = list(plans)
    there = set(admin.list_topics())
    missing = [plan for plan in wanted if plan.name not in there]
    for plan in missing:
        options: dict[str, Any] = {"num_partitions": plan.partitions, "replication_factor": -1}
        try:
            admin.create_topics({plan.name: options})
        except TopicAlreadyExistsError:  # somebody else was quicker
            continue
        except AuthorizationError as err:
            names = ", ".join(plan.name for plan in missing)
            raise NeedsOperator(
                f"Kafka lets this user see no topic {names}, nor create it: have them created, with"
                " the right to describe and read them (docs/kafka.md)"
            ) from err
    if missing:
        admin.wait_for_topics([plan.name for plan in missing])
    if bounds is not None:
        partitions = {
            t["name"]: len(t["partitions"])
            for t in admin.describe_topics([plan.name for plan in wanted])
        }
        admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC,
                    plan.name,
                    configs=retention(bounds, plan, partitions[plan.name]),
                )
                for plan in wanted
            ]
        )
    return [plan.name for plan in missing]


def retention(bounds: Bounds, plan: TopicPlan, partitions: int) -> Mapping[str, str]:
    """Settings of a topic whose partitions together stay within its share, as far as its longest
    message allows it.

    Kafka deletes whole segments and never the one being written, so a partition takes up to
    retention.bytes and one segment more: together they are the partition's part.
    """
    part = int(bounds.retention_bytes * plan.share / partitions)
    least = max(_LEAST_SEGMENT, plan.message_bytes + _BATCH_OVERHEAD)
    segment = max(min(part // _SEGMENTS, _GREATEST_SEGMENT), least)
    return {
        "retention.ms": str(bounds.retention_ms),
        "retention.bytes": str(max(part - segment, segment)),
        "segment.bytes": str(segment),
        # A segment also ends after a quarter of the time, else a quiet topic keeps all for ever.
        "segment.ms": str(max(bounds.retention_ms // 4, 1_000)),
    }
