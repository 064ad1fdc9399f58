"""Prints numbers as Go does."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from varve.promql.syntax.literals import format_number


def format_f(value: float) -> str:
    """Prints a number as strconv's 'f' with the shortest precision does: without an exponent."""
    return format_number(value)


def format_g(value: float, precision: int | None = None) -> str:
    """Prints a number as fmt's %g does, or with a precision as its %.Ng.

    Without one the digits are the shortest that read back. An exponent is used below 10**-4 and
    from 10**6, or 10**precision, on.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    shown = repr(value) if precision is None else f"{value:.{precision - 1}e}"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = shown.lstrip("-").partition("e")
    whole, _, decimals = mantissa.partition(".")
    digits = (whole + decimals).lstrip("0")
    leading = len(whole + decimals) - len((whole + decimals).lstrip("0"))
    power = len(whole) + int(exponent or 0) - leading - 1
    digits = digits.rstrip("0") or "0"
    limit = 6 if precision is None else precision
    if power < -4 or power >= limit:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        mark = "-" if power < 0 else "+"
        return f"{sign}{digits[0]}{rest}e{mark}{abs(power):02d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    if len(digits) <= power + 1:
        return sign + digits.ljust(power + 1, "0")
    return f"{sign}{digits[: power + 1]}.{digits[power + 1 :]}"


def format_open_metrics(value: float) -> str:
    """Prints a number as an exposition does: %g, with ".0" where there is neither point nor
    exponent.
    """
    if value in (0.0, 1.0, -1.0):
        return f"{int(value)}.0"
    if math.isnan(value) or math.isinf(value):
        return format_g(value)
    shown = format_g(value)
    return shown if "." in shown or "e" in shown else shown + ".0"


def rfc3339(ms: int) -> str:
    """A time in UTC, cut to whole seconds."""
    seconds = int(ms / 1000)
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
