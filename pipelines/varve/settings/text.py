"""The settings as text: what is in force and why, and the commented file to start from."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from varve.settings.tree import Settings, settings_there_are

DEFAULT = "default"
_HIDDEN = "***"
_HEADER = """\
# Settings of Varve: every one there is, commented out at its default.
#
# A checkout reads this file; an installed Varve reads the one named by --config or VARVE_CONFIG.
# A variable VARVE_SECTION__KEY (VARVE_KAFKA__PORT=9192) beats the file, an option of the command
# line beats both. `varve config` prints what is in force and where it came from.
#
# Written by `varve config --template`.
"""


class Line(NamedTuple):
    """One setting in force.

    value: written as in TOML, secrets hidden. origin: default, a file, a variable or the command
    line.
    """

    key: str
    value: str
    origin: str


def in_force(settings: Settings, origins: Mapping[str, str]) -> list[Line]:
    """Every setting with its value. Options of a table (kafka.options) may have several origins."""
    lines = []
    for key, _ in settings_there_are():
        value = settings.at(key)
        within = {k: o for k, o in origins.items() if k == key or k.startswith(f"{key}.")}
        lines.append(Line(key, _toml(value), ", ".join(sorted(set(within.values()))) or DEFAULT))
    return lines


def as_yaml(settings: Settings) -> str:
    """Every setting with its value, secrets hidden, by section."""
    lines, section = [], ""
    for key, _ in settings_there_are():
        here, _, name = key.rpartition(".")
        if here and here != section:
            lines.append(f"{here}:\n")
        section = here
        indent = "  " if here else ""
        lines.append(f"{indent}{name}: {_literal(settings.at(key), ': ')}\n")
    return "".join(lines)


def template() -> str:
    """The text of conf/varve.toml: every setting, explained, at its default."""
    parts, section = [_HEADER], ""
    for key, field in settings_there_are():
        here, _, name = key.rpartition(".")
        if here != section:
            section = here
            parts.append(f"[{section}]\n")
        says = " ".join((field.description or "").split())
        if bounds := _bounds(field):
            says += f" ({bounds})"
        comment = textwrap.fill(says, 98, initial_indent="# ", subsequent_indent="# ")
        default = field.get_default(call_default_factory=True)
        parts.append(f"{comment}\n#{name} = {_toml(default)}\n")
    return "\n".join(parts)


def _bounds(field: FieldInfo) -> str:
    said = {
        type(bound): getattr(bound, type(bound).__name__.lower())
        for bound in field.metadata
        if isinstance(bound, Ge | Gt | Le | Lt)
    }
    if Ge in said and Le in said:
        return f"{said[Ge]:,} to {said[Le]:,}"
    words = {Ge: "at least", Gt: "over", Le: "at most", Lt: "under"}
    return ", ".join(f"{words[kind]} {limit:,}" for kind, limit in said.items())


def _toml(value: Any) -> str:
    return _literal(value, " = ")


def _literal(value: Any, equals: str) -> str:
    """As TOML and YAML both write it, but for what stands between a key and its value."""
    if isinstance(value, SecretStr):
        return json.dumps(_HIDDEN if value.get_secret_value() else "")
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)}{equals}{_literal(v, equals)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)
