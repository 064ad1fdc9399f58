"""`varve notify`: checks configurations of the notifier."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Tools for the notifier, which `varve serve notify` runs.

  check FILE...   whether each is an alertmanager.yml that can be used, and what it has
"""
    parser.epilog = """\
example:
  varve notify check /etc/alertmanager/alertmanager.yml
"""
    parser.add_argument("action", choices=["check"], metavar="check")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--enable-feature",
        choices=["classic-mode", "utf8-strict-mode"],
        help="the notation of matchers that counts",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - a command's signature
    """0 if every file can be used, else 1, with a line on stderr for each thing that is wrong."""
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
