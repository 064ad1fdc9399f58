"""The `otlp:` section of a prometheus.yml.

Source: Prometheus, "Configuration", otlp.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class Strategy(enum.StrEnum):
    """How names become Prometheus names: whether they are escaped, whether unit and type follow."""

    ESCAPED_WITH_SUFFIXES = "UnderscoreEscapingWithSuffixes"
    ESCAPED = "UnderscoreEscapingWithoutSuffixes"
    UTF8_WITH_SUFFIXES = "NoUTF8EscapingWithSuffixes"
    UNTOUCHED = "NoTranslation"

    @property
    def has_suffixes(self) -> bool:
        return self in (Strategy.ESCAPED_WITH_SUFFIXES, Strategy.UTF8_WITH_SUFFIXES)

    @property
    def is_escaped(self) -> bool:
        return self in (Strategy.ESCAPED_WITH_SUFFIXES, Strategy.ESCAPED)


class InvalidOtlpConfig(ValueError):
    """The section cannot be; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """The section's fields, by the names they have there."""

    translation_strategy: Strategy = Strategy.ESCAPED_WITH_SUFFIXES
    promote_all_resource_attributes: bool = False
    ignore_resource_attributes: tuple[str, ...] = ()
    promote_resource_attributes: tuple[str, ...] = ()
    keep_identifying_resource_attributes: bool = False
    convert_histograms_to_nhcb: bool = False
    promote_scope_metadata: bool = False
    label_name_underscore_sanitization: bool = True
    label_name_preserve_multiple_underscores: bool = True


_LISTS = ("ignore_resource_attributes", "promote_resource_attributes")


def read_otlp_config(text: str) -> OtlpConfig:
    """The section, given as the YAML below its key. Raises InvalidOtlpConfig."""
    try:
        section = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise InvalidOtlpConfig(f"otlp: no YAML: {err}") from err
    return otlp_config(section)


def otlp_config_of(file: Path) -> OtlpConfig:
    """The section of a prometheus.yml. Raises InvalidOtlpConfig, OSError."""
    try:
        found = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise InvalidOtlpConfig(f"no YAML: {err}") from err
    if found is not None and not isinstance(found, Mapping):
        raise InvalidOtlpConfig("no mapping")
    return otlp_config((found or {}).get("otlp"))


def otlp_config(section: object) -> OtlpConfig:
    """The section, given as YAML has it; None stands for an empty one. Raises InvalidOtlpConfig."""
    if section is None:
        return OtlpConfig()
    if not isinstance(section, Mapping):
        raise InvalidOtlpConfig("otlp: is no mapping")
    found: dict[str, Any] = {}
    for name, value in section.items():
        if name == "translation_strategy":
            found[name] = _strategy(value)
        elif name in _LISTS:
            found[name] = _names(name, value)
        elif name in OtlpConfig.__dataclass_fields__:
            if not isinstance(value, bool):
                raise InvalidOtlpConfig(f"otlp: {name} is true or false, not {value!r}")
            found[name] = value
        else:
            raise InvalidOtlpConfig(f"otlp: there is no field {name!r}")
    config = OtlpConfig(**found)
    if config.promote_all_resource_attributes and config.promote_resource_attributes:
        text = "promote_all_resource_attributes and promote_resource_attributes exclude each other"
        raise InvalidOtlpConfig(f"otlp: {text}")
    if config.ignore_resource_attributes and not config.promote_all_resource_attributes:
        text = "ignore_resource_attributes needs promote_all_resource_attributes"
        raise InvalidOtlpConfig(f"otlp: {text}")
    return config


def _strategy(value: object) -> Strategy:
    if value in ("", None):
        return Strategy.ESCAPED_WITH_SUFFIXES
    try:
        return Strategy(str(value))
    except ValueError:
        known = ", ".join(Strategy)
        text = f"otlp: translation_strategy is one of {known}, not {value!r}"
        raise InvalidOtlpConfig(text) from None


def _names(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidOtlpConfig(f"otlp: {name} is a list of attribute names")
    names = [item.strip() for item in value]
    if not all(names):
        raise InvalidOtlpConfig(f"otlp: {name} has an empty name")
    if len(set(names)) < len(names):
        raise InvalidOtlpConfig(f"otlp: {name} has a name twice")
    return tuple(names)
