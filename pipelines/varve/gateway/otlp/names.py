"""Names of metrics, units and labels as Prometheus translates them from OpenTelemetry.

Source: prometheus/otlptranslator; OpenTelemetry, "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from varve.gateway.otlp.config import OtlpConfig

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds",
    "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes",
    "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes", "KBy": "kilobytes",
    "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes", "m": "meters", "V": "volts",
    "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius", "Hz": "hertz",
    "1": "", "%": "percent",
}  # fmt: skip
_PER_UNITS = {
    "s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year",
}  # fmt: skip

_NOT_IN_TOKENS = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_METRICS = re.compile(r"[^a-zA-Z0-9:_]+")
_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")
_BETWEEN_WORDS = re.compile(r"[^a-zA-Z0-9]+")

_REMEMBERED = 20_000


class InvalidName(ValueError):
    """Nothing of a name is left, or nothing but underscores."""


@dataclass(frozen=True, slots=True)
class Names:
    """Translates names by the settings. All methods are pure."""

    config: OtlpConfig

    def metric(self, name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> str:
        """Raises InvalidName."""
        return _metric(self.config, name, unit, is_counter, is_gauge)

    def label(self, name: str) -> str:
        """Raises InvalidName."""
        return _label(self.config, name)

    def unit(self, unit: str) -> str:
        """The unit as metadata has it."""
        main, per = _unit_words(unit)
        if self.config.translation_strategy.is_escaped:
            main, per = _clean(main), _clean(per)
        found = f"{main}_{per}" if main and per else main or per
        return found.removeprefix("_").removesuffix("_")


@lru_cache(_REMEMBERED)
def _metric(config: OtlpConfig, name: str, unit: str, is_counter: bool, is_gauge: bool) -> str:  # noqa: FBT001 - a cache's key
    strategy = config.translation_strategy
    if not strategy.is_escaped:
        found = name
        if strategy.has_suffixes:
            found = _suffixed(name, unit, is_counter=is_counter, is_gauge=is_gauge)
        if not found:
            raise InvalidName("a metric has no name")
        return found
    if strategy.has_suffixes:
        found = "_".join(_tokens(name, unit, is_counter=is_counter, is_gauge=is_gauge))
    else:
        found = "_".join(filter(None, _NOT_IN_METRICS.split(name)))
    if found[:1].isdecimal():
        found = "_" + found
    if not found.strip("_"):
        raise InvalidName(f"nothing is left of the metric name {name[:100]!r}")
    return found


def _tokens(name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> list[str]:
    tokens = [token for token in _NOT_IN_TOKENS.split(name) if token]
    main, per = map(_clean, _unit_words(unit))
    per = per.removeprefix("per_")
    if main and main not in tokens:
        tokens.append(main.removesuffix("_") if per and per not in tokens else main)
    if per and per != "per" and per not in tokens:
        tokens += ["per", per]
    if is_counter:
        tokens = [*(word for word in tokens if word != "total"), "total"]
    if unit == "1" and is_gauge:
        tokens = [*(word for word in tokens if word != "ratio"), "ratio"]
    return tokens


def _suffixed(name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> str:
    """A name that is not escaped, with its unit and type once at its end."""
    end = ""
    if unit == "1" and is_gauge:
        name, end = _without(name, "ratio"), "_ratio"
    if is_counter:
        name, end = _without(name, "total"), "_total" + end
    main, per = _unit_words(unit)
    if per:
        name, end = _without(name, per), f"_{per}{end}"
    if main and not name.endswith(main):
        name = f"{name}_{main}"
    return name + end


def _without(name: str, word: str) -> str:
    return name.removesuffix(f"_{word}") if name != f"_{word}" else name


def _unit_words(unit: str) -> tuple[str, str]:
    """The words of a unit before and after its slash, the second beginning with per_; "" for what
    is in braces.
    """
    before, _, after = unit.partition("/")
    before, after = before.strip(), after.strip()
    main = "" if _has_braces(before) else _UNITS.get(before, before)
    per = "" if _has_braces(after) else _PER_UNITS.get(after, after)
    return main, f"per_{per}" if per else ""


def _has_braces(text: str) -> bool:
    return "{" in text or "}" in text


def _clean(unit: str) -> str:
    return re.sub("_+", "_", _NOT_IN_LABELS.sub("_", unit.replace(":", "_"))).removeprefix("_")


@lru_cache(_REMEMBERED)
def _label(config: OtlpConfig, name: str) -> str:
    if not name.strip("_"):
        raise InvalidName(f"an attribute has the name {name[:100]!r}")
    if not config.translation_strategy.is_escaped:
        return name
    if config.label_name_preserve_multiple_underscores:
        found = _NOT_IN_LABELS.sub("_", name)
    else:
        is_reserved = len(name) > 4 and name.startswith("__") and name.endswith("__")
        found = _BETWEEN_WORDS.sub("_", name[2:-2] if is_reserved else name)
        if is_reserved:
            found = f"__{found}__"
    if found[:1].isdecimal():
        found = "key_" + found
    elif (
        config.label_name_underscore_sanitization
        and found.startswith("_")
        and not found.startswith("__")
    ):
        found = "key" + found
    if not found.strip("_"):
        raise InvalidName(f"nothing is left of the attribute name {name[:100]!r}")
    return found
