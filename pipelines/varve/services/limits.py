"""Where the file of limits lies, for the processes that enforce or report them."""

from __future__ import annotations

from pathlib import Path

from varve.model.resources import conf_dir
from varve.settings import Settings


def limits_files(settings: Settings) -> tuple[Path, Path]:
    """Where limits are looked for: the first that exists is in force."""
    return settings.home / "limits.toml", conf_dir() / "limits.toml"
