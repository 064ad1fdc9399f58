"""`varve config`: the settings in force and where each came from."""

from __future__ import annotations

import argparse
import json

from varve.model.errors import BadRequest
from varve.settings import Settings
from varve.settings.text import DEFAULT, in_force, template


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Prints every setting with the value in force and where it came from: default, a file,
a variable VARVE_SECTION__KEY, or the command line. Secrets are not shown.
"""
    parser.epilog = """\
examples:
  varve config                         all settings
  varve config kafka                   one section
  varve config --changed               only what is not a default
  varve config --template > my.toml    a file to start from, every setting explained
"""
    parser.add_argument(
        "prefix", nargs="?", default="", metavar="SECTION", help="only settings that begin so"
    )
    parser.add_argument("--changed", action="store_true", help="leave defaults out")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--template", action="store_true", help="print the commented settings file instead"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.template:
        print(template(), end="")
        return 0
    lines = [
        line
        for line in in_force(settings, args.origins)
        if line.key.startswith(args.prefix) and not (args.changed and line.origin == DEFAULT)
    ]
    if not lines and not args.changed:
        raise BadRequest(f"there are no settings that begin with {args.prefix!r}")
    if args.json:
        print(json.dumps([line._asdict() for line in lines], indent=2))
        return 0
    width = max((len(f"{line.key} = {line.value}") for line in lines), default=0)
    for line in lines:
        print(f"{f'{line.key} = {line.value}':<{min(width, 60)}}  # {line.origin}")
    return 0
