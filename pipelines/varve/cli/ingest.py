"""`varve ingest`: what an operator may have to do to an ingest query."""

from __future__ import annotations

import argparse
import json

from varve.cli.home_options import add_home_options
from varve.ingest.skip import skip
from varve.kafka.message import Message
from varve.kafka.offsets import TopicOffsets
from varve.kafka.partitions import OffsetRange
from varve.kafka.reader import read
from varve.model.clock import SystemClock
from varve.model.errors import BadRequest
from varve.services.ingest_plans import ingest_plans
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Mends ingest by hand where nothing else does."
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    command = commands.add_parser(
        "skip",
        help="park one message that stops ingest in quarantine, and go on behind it",
        description="""\
The last resort if one message ends an ingest query whenever it is read: the error of the query
names it. Puts the message as it is into quarantine (reason skipped) and moves the position by one,
in one batch. Only the next message of a partition can be skipped. A query that runs ends with a
conflict if it was reading that message; its next start goes on behind it.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--topic", required=True, metavar="NAME", help="topic of the message")
    command.add_argument("--partition", required=True, type=int, metavar="N", help="its partition")
    command.add_argument("--offset", required=True, type=int, metavar="N", help="its offset")
    command.add_argument("--query", metavar="NAME", help="default: the one that reads the topic")
    command.add_argument("--json", action="store_true", help="print the batch's accounting")
    parser.epilog = """\
examples:
  varve ingest skip --topic raw-metrics --partition 3 --offset 1234567
"""
    add_home_options(command)


def run(args: argparse.Namespace, settings: Settings) -> int:
    plans = ingest_plans(settings, [args.query] if args.query else None)
    reading = [plan for plan in plans if args.topic in plan.topics]
    if not reading:
        names = sorted({topic for plan in plans for topic in plan.topics})
        raise BadRequest(f"topic {args.topic} is not read: {', '.join(names)} are")
    (plan,) = reading
    topics = TopicOffsets(plan.cluster, [args.topic])
    try:
        found = [p for p in topics.partitions() if p.number == args.partition]
        if not found:
            raise BadRequest(f"topic {args.topic} has no partition {args.partition}")
        earliest, latest = topics.earliest(found)[found[0]], topics.latest(found)[found[0]]
    finally:
        topics.close()
    if not earliest <= args.offset < latest:
        raise BadRequest(f"Kafka has the offsets {earliest} to {latest - 1} of it")
    offsets = OffsetRange(args.offset, args.offset + 1)
    messages = list(read(plan.cluster, args.topic, args.partition, offsets))
    # Nothing is there where a transaction was ended or aborted.
    message = messages[0] if messages else Message(args.topic, args.partition, args.offset, 0, None)
    accounting = skip(
        plan.store,
        plan.query,
        found[0],
        message,
        earliest=earliest,
        now_ms=SystemClock().now_ms(),
    )
    if args.json:
        print(json.dumps(accounting))
    else:
        size = len(message.value or b"")
        print(f"parked {size:,} bytes; {plan.query} goes on from offset {args.offset + 1}")
    return 0
