"""`varve notify`: checks configurations of the notifier, says who is on call, acknowledges."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from varve.cli.terminal import printable
from varve.model.clock import SystemClock, utc_text
from varve.model.errors import BadRequest, NeedsOperator, TemporaryError

if TYPE_CHECKING:
    from varve.settings import Settings

_DAY_MS = 86_400_000
_TIMEOUT_S = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Tools for the notifier, which `varve serve notify` runs.
"""
    parser.epilog = """\
examples:
  varve notify check /etc/alertmanager/alertmanager.yml
  varve notify oncall oncall.yml --config.file alertmanager.yml --days 28
  varve notify oncall oncall.yml --config.file alertmanager.yml --ical primary > primary.ics
  varve notify ack --by anna alertname=DiskFull host=a
"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check", help="whether each is an alertmanager.yml that can be used, and what it has"
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    on_call = actions.add_parser("oncall", help="check an oncall.yml, and say who is on call when")
    on_call.add_argument("file", type=Path, metavar="FILE")
    on_call.add_argument(
        "--config.file", dest="config_file", type=Path, required=True, metavar="FILE"
    )
    on_call.add_argument("--days", type=int, default=14, help="how far to look ahead (14)")
    on_call.add_argument("--ical", metavar="SCHEDULE", help="print it as a calendar (iCalendar)")
    for action in (check, on_call):
        action.add_argument(
            "--enable-feature",
            choices=["classic-mode", "utf8-strict-mode"],
            help="the notation of matchers that counts",
        )
    ack = actions.add_parser("ack", help="say that somebody takes care of alerts that fire")
    ack.add_argument("matchers", nargs="+", metavar="MATCHER", help="such as alertname=DiskFull")
    ack.add_argument("--by", required=True, metavar="NAME", help="who")
    ack.add_argument("--url", help="the notifier (default: that of the settings)")


def runs_without_settings(args: argparse.Namespace) -> bool:
    """Files are checked in a third of the time that it takes with settings."""
    return args.action != "ack"


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """0 if all went well; 1 if a file cannot be used, with a line on stderr for all that is wrong,
    or no alert was there to be acknowledged. settings: None only if `runs_without_settings`.
    """
    if args.action == "check":
        return _check(args)
    if args.action == "oncall":
        return _on_call(args)
    assert settings is not None  # noqa: S101 - the others run without
    return _acknowledge(args, settings)


def _check(args: argparse.Namespace) -> int:
    from varve.notify.check import summary_of
    from varve.notify.config.document import ConfigError
    from varve.notify.matchers import Mode

    mode = Mode(args.enable_feature) if args.enable_feature else Mode.FALLBACK
    failed = False
    for path in args.files:
        try:
            found = summary_of(path, mode)
        except ConfigError as err:
            failed = True
            print(err, file=sys.stderr)
            print(f"{path}: FAILED", file=sys.stderr)
            continue
        for warning in found.warnings:
            print(f"{path}: warning: {warning}", file=sys.stderr)
        print(f"{path}: ok: {found.text}")
    return 1 if failed else 0


def _on_call(args: argparse.Namespace) -> int:
    from varve.notify.config import load_config
    from varve.notify.config.document import ConfigError
    from varve.notify.matchers import Mode
    from varve.notify.oncall.ical import to_calendar
    from varve.notify.oncall.load import load_on_call

    mode = Mode(args.enable_feature) if args.enable_feature else Mode.FALLBACK
    try:
        found = load_on_call(args.file, load_config(args.config_file, mode).receivers, mode)
    except ConfigError as err:
        raise NeedsOperator(str(err)) from err
    # From midnight, so that a calendar that is fetched again has the same events.
    start_ms = SystemClock().now_ms() // _DAY_MS * _DAY_MS
    end_ms = start_ms + args.days * _DAY_MS
    if args.ical is not None:
        if args.ical not in found.schedules:
            known = ", ".join(sorted(found.schedules)) or "none"
            raise BadRequest(f"there is no schedule {args.ical!r}; there are: {known}")
        shifts = found.schedules[args.ical].shifts(start_ms, end_ms)
        sys.stdout.write(to_calendar(args.ical, shifts).decode())
        return 0
    for name, schedule in sorted(found.schedules.items()):
        print(printable(f"{name} ({schedule.zone.key})"))
        for shift in schedule.shifts(start_ms, end_ms):
            span = f"{utc_text(shift.start_ms)} to {utc_text(shift.end_ms)}"
            print(printable(f"  {span}  {shift.member}"))
    for receiver, steps in found.chains.items():
        told = "; ".join(f"after {s.after_ms // 1000} s {', '.join(s.notify)}" for s in steps)
        print(printable(f"{receiver}: {told}"))
    return 0


def _acknowledge(args: argparse.Namespace, settings: Settings) -> int:
    from varve.services.own_services import opener_to

    notify = settings.notify
    host = f"[{notify.host}]" if ":" in notify.host else notify.host
    url = (args.url or f"http://{host}:{notify.port}").rstrip("/") + "/api/v1/acknowledge"
    body = json.dumps({"matchers": args.matchers, "by": args.by}).encode()
    try:
        with opener_to(url).open(url, body, timeout=_TIMEOUT_S) as answer:
            found = json.load(answer)["acknowledged"]
    except urllib.error.HTTPError as err:
        raise BadRequest(err.read(1_000).decode(errors="replace").strip()) from err
    except (OSError, ValueError) as err:
        raise TemporaryError(f"no notifier answers at {url}: {err}") from err
    for labels in found:
        print(printable(", ".join(f"{name}={value}" for name, value in labels.items())))
    if not found:
        print("no alert that fires matches", file=sys.stderr)
    return 0 if found else 1
