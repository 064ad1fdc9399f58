"""What `varve notify check` says of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from varve.notify.config.document import path_text
from varve.notify.config.load import load_config
from varve.notify.matchers import Mode
from varve.notify.templates import Templates
from varve.templates.errors import TemplateError


@dataclass(frozen=True)
class Summary:
    text: str
    warnings: tuple[str, ...]


def summary_of(path: Path, mode: Mode) -> Summary:
    """What a file has, and what in it will fail later. Raises ConfigError if it cannot be used."""
    config = load_config(path, mode)
    templates = Templates.load(config.templates)
    warnings = list(config.warnings)
    for name, integrations in config.receivers.items():
        for integration in integrations:
            where = f"receiver {name!r}: {integration.kind}_configs[{integration.index}]"
            for place, text in _texts(integration.config, ()):
                try:
                    templates.compiled(text)
                except TemplateError as err:
                    warnings.append(f"{where}.{path_text(place)}: {err.message}")
    counts = {
        "receivers": len(config.receivers),
        "inhibition rules": len(config.inhibit_rules),
        "time intervals": len(config.intervals),
        "template patterns": len(config.templates),
    }
    return Summary(", ".join(f"{count} {what}" for what, count in counts.items()), tuple(warnings))


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text with an action in it, and where it stands."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _texts(getattr(value, name), (*path, field.alias or name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _texts(item, (*path, i))
    elif isinstance(value, str) and "{{" in value:
        yield path, value
