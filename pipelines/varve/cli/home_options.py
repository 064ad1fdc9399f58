"""--home and --config, which every command has, where people write them behind its action, too."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_home_options(action: argparse.ArgumentParser) -> None:
    """Takes them without showing them again, and leaves alone what was said before the action."""
    for option, metavar in (("--home", "DIR"), ("--config", "FILE")):
        action.add_argument(
            option, type=Path, metavar=metavar, default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
