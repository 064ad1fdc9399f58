"""Writes values as Go's encoding/json does. Source: Go, encoding/json."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from varve.templates.budget import Budget
from varve.templates.errors import FunctionError
from varve.templates.go_time import Time
from varve.templates.values import NO_VALUE, Members, is_int

_ESCAPED = re.compile("[<>&\u2028\u2029]")


def to_json(budget: Budget, value: Any) -> str:
    """The JSON of a value; <, > and & are escaped in it. Raises FunctionError if it has none."""
    budget.step()
    if value is None or value is NO_VALUE:
        text = "null"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif is_int(value):
        text = str(int(value))
    elif isinstance(value, float):
        text = _float(value)
    elif isinstance(value, str):
        text = _string(value)
    elif isinstance(value, Time):
        text = f'"{value.rfc3339()}"'
    else:
        budget.enter()
        text = _composite(budget, value)
        budget.leave()
    budget.made(len(text))
    return text


def _composite(budget: Budget, value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(to_json(budget, element) for element in value)}]"
    if isinstance(value, dict):
        entries = [(str(key), value[key]) for key in sorted(value)]
    elif isinstance(value, Members):
        names = getattr(value, "json_names", None) or value.template_fields
        entries = [(name, getattr(value, attribute)) for name, attribute in names.items()]
    else:
        raise FunctionError(f"json: unsupported value: {value}")
    shown = [f"{_string(name)}:{to_json(budget, element)}" for name, element in entries]
    return f"{{{','.join(shown)}}}"


def _string(value: str) -> str:
    valid = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = json.dumps(valid, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _float(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        raise FunctionError(f"json: unsupported value: {value}")
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    size = abs(value)
    shown = repr(value)
    if 1e-6 <= size < 1e21:
        if "e" not in shown:
            return shown.removesuffix(".0")
        return f"{value:.30f}".rstrip("0") if size < 1 else str(int(value))
    mantissa, _, exponent = shown.partition("e")
    if not exponent:  # pragma: no cover - Python writes these with an exponent
        return shown
    sign = "-" if exponent[0] == "-" else "+"
    digits = exponent.lstrip("+-").lstrip("0")
    return f"{mantissa.removesuffix('.0')}e{sign if sign == '-' else '+'}{digits}"
