"""Main: puts an alert event on the topic alerts, for schedulers and scripts. Needs no JVM.

python jobs/send_alert.py --config varve.toml --name VarveJobFailed --label dag_id=compaction
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.kafka.alert_topic import send_alerts
from varve.model.alert_event import NAME_LABEL, AlertEvent
from varve.model.clock import SystemClock
from varve.model.errors import VarveError
from varve.services.batch_jobs import time_ms
from varve.services.logs import configure_for
from varve.services.progress import kafka_cluster
from varve.settings import load

DESCRIPTION = """\
Says that an alert fires, or no longer does. Blocks until Kafka has the event on all replicas. Exit
status: 0 sent, 1 refused or Kafka does not take it, 2 wrong usage.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--name", required=True, help=f"of the alert, its label {NAME_LABEL}")
    parser.add_argument("--state", choices=("firing", "resolved"), default="firing")
    for option, of in (("--label", "identity of the alert"), ("--annotation", "words about it")):
        parser.add_argument(
            option, action="append", type=_pair, default=[], metavar="NAME=VALUE", help=of
        )
    parser.add_argument(
        "--since", type=time_ms, metavar="TIME", help="when it began, RFC 3339 (default: now)"
    )
    parser.add_argument(
        "--hours", type=float, help="after which a firing alert ends by itself (default: never)"
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="data folder (default: .varve)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    args = parser.parse_args()
    now_ms = SystemClock().now_ms()
    try:
        settings, _ = load(args.config, overrides={"home": args.home})
        configure_for(settings)
        event = AlertEvent(
            labels={**dict(args.label), NAME_LABEL: args.name},
            state=args.state,
            starts_ms=now_ms if args.since is None else min(args.since, now_ms),
            evaluated_ms=now_ms,
            annotations=dict(args.annotation),
            ends_ms=None if args.hours is None else now_ms + round(args.hours * 3_600_000),
        )
        send_alerts(kafka_cluster(settings), settings.kafka.topics.alerts, [event])
    except VarveError as err:
        print(f"{parser.prog}: {err}", file=sys.stderr)
        return 1
    print(event.message().decode())
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, not {text!r}")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
