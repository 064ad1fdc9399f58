"""`varve up`: run the whole platform on this machine."""

from __future__ import annotations

import argparse
import contextlib
import math
from typing import Any

from varve.local import up
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Starts a Kafka broker, Spark's streaming queries, the query service and a collector of
this machine's metrics, watches them, and stops them in order on Ctrl-C. Everything it
keeps is in one folder, the home; the next start goes on where this one stopped.
"""
    parser.epilog = """\
examples:
  varve up --demo                     with 8 days of generated history to look at
  varve up --home /data/varve         data somewhere else
  varve up --kafka broker1:9092       with your own Kafka
  varve up --demo --for 120           two minutes, then a summary
"""
    parser.add_argument(
        "--for",
        dest="for_s",
        type=_seconds,
        metavar="SECONDS",
        help="stop that long after all is ready, with a summary",
    )
    parser.add_argument(
        "--kafka",
        type=_servers,
        metavar="HOST:PORT",
        help="use this Kafka instead of starting a broker",
    )
    parser.add_argument(
        "--demo", action="store_true", help="send generated history first (settings [demo])"
    )
    parser.add_argument("--no-collector", action="store_true", help="do not measure this machine")


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that options of this command stand for."""
    return {
        "kafka.bootstrap_servers": args.kafka,
        "collector.enabled": False if args.no_collector else None,
    }


def run(args: argparse.Namespace, settings: Settings) -> int:
    options = up.UpOptions(args.for_s, args.demo, args.config)
    return up.run(settings, args.origins, options, _say)


def _servers(text: str) -> str:
    """An empty text, as of a variable that is not set, would start a broker after all."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name HOST:PORT")
    return text


def _seconds(text: str) -> float:
    """A length of time that passes."""
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds over 0")
    return seconds


def _say(text: str) -> None:
    # The terminal may have been closed: that asks for an orderly end, not for a crash.
    with contextlib.suppress(OSError):
        print(text, flush=True)
