"""Loads the settings: defaults, file, environment, command line; the later wins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from varve.model.errors import NeedsOperator
from varve.model.resources import conf_dir
from varve.model.text_file import read_text
from varve.settings.environment import CONFIG_FILE, values_in
from varve.settings.explanation import explain
from varve.settings.tree import Settings, settings_there_are

COMMAND_LINE = "command line"
"""Origin of a value that an option of the command line gave."""


def load(
    file: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Settings, dict[str, str]]:
    """The settings, and where each value that is not a default came from, by dotted key.

    overrides: options of the command line by dotted key; None stands for one that was not given.
    file: by default that of VARVE_CONFIG, else the checkout's conf/varve.toml.
    Raises NeedsOperator for a missing file, bad TOML, an unknown key (naming the nearest) or a
    value out of bounds.
    """
    env = os.environ if env is None else env
    origins: dict[str, str] = {}
    tree: dict[str, Any] = {}
    if file is None:
        file = Path(env[CONFIG_FILE]) if env.get(CONFIG_FILE) else _default_file()
    if file is not None:
        tree = _read(file)
        origins |= dict.fromkeys(_keys(tree), str(file))
    for name, key, value in values_in(env, [setting.key for setting in settings_there_are()]):
        _put(tree, key, value, name)
        origins[key] = name
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(tree, key, value, COMMAND_LINE)
            origins[key] = COMMAND_LINE
    try:
        return Settings.model_validate(tree), origins
    except ValidationError as err:
        raise NeedsOperator(explain(err, Settings, origins)) from err


def _default_file() -> Path | None:
    file = conf_dir() / "varve.toml"
    return file if file.is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(file))
    except OSError as err:
        raise NeedsOperator(f"cannot read the settings in {file}: {err.strerror}") from err
    except (tomllib.TOMLDecodeError, RecursionError) as err:
        raise NeedsOperator(f"{file} is not valid TOML: {err}") from err
    except ValueError as err:  # of another encoding
        raise NeedsOperator(str(err)) from err


def _put(tree: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise NeedsOperator(f"{origin}: {section} is a section of settings, not a value")
    tree[last] = value


def _keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in tree.items():
        keys += _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return keys
