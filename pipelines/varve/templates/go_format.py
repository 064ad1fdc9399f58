"""Prints values as Go's package fmt does: print, println and the verbs of printf."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from varve.templates.budget import Budget
from varve.templates.directives import (
    Spec,
    complex_text,
    float_text,
    integer_text,
    pad,
    string_text,
)
from varve.templates.errors import FunctionError
from varve.templates.values import (
    NO_VALUE,
    Members,
    is_int,
    methods_of,
    sort_key,
    type_name,
)

WIDEST: Final = 1_000_000
"""The largest width and precision; what is larger is an error in the text, as in Go."""

_DIRECTIVE = re.compile(
    r"%(?P<flags>[+\-# 0]*)"
    r"(?P<wi>\[[^\]]*\])?(?P<width>\*|[0-9]+)?"
    r"(?P<point>\.(?P<pi>\[[^\]]*\])?(?P<precision>\*|[0-9]+)?)?"
    r"(?P<vi>\[[^\]]*\])?(?P<verb>.)?",
    re.DOTALL,
)


def to_text(value: Any, budget: Budget) -> str:
    """A value as an action prints it, which is %v."""
    if type(value) is str:
        return value
    return "<no value>" if value is NO_VALUE else _Printer(budget).value(value, Spec(), "v", 0)


def sprint(values: Sequence[Any], budget: Budget) -> str:
    """The values one after another, with a space between two that are no strings."""
    parts: list[str] = []
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            parts.append(" ")
        parts.append(_within(value, budget))
    return "".join(parts)


def sprintln(values: Sequence[Any], budget: Budget) -> str:
    """The values with a space between each two, and a newline."""
    return " ".join(_within(value, budget) for value in values) + "\n"


def _within(value: Any, budget: Budget) -> str:
    text = _Printer(budget).value(value, Spec(), "v", 0)
    budget.made(len(text))
    return text


def sprintf(template: str, args: Sequence[Any], budget: Budget) -> str:
    """The text of `template` with its directives replaced."""
    return _Printer(budget).format(template, args)


class _Printer:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._args: Sequence[Any] = ()
        self._next = 0
        self._reordered = False

    def format(self, template: str, args: Sequence[Any]) -> str:
        self._args = args
        parts, at = [], 0
        while (start := template.find("%", at)) >= 0:
            parts.append(template[at:start])
            match = _DIRECTIVE.match(template, start)
            if match is None:  # pragma: no cover - every part of it may be missing
                break
            self._budget.step()
            part = self._directive(match)
            self._budget.made(len(part))
            parts.append(part)
            at = match.end()
        parts.append(template[at:])
        if not self._reordered and self._next < len(args):
            parts.append(self._extra(args[self._next :]))
        return "".join(parts)

    def _extra(self, args: Sequence[Any]) -> str:
        shown = [
            "<nil>" if arg is None else f"{type_name(arg)}={self.value(arg, Spec(), 'v', 0)}"
            for arg in args
        ]
        return f"%!(EXTRA {', '.join(shown)})"

    def _directive(self, match: re.Match[str]) -> str:
        flags = match["flags"]
        spec = Spec(*(mark in flags for mark in "+-# 0"))
        good = self._go_to(match["wi"])
        faults = self._width(match, spec)
        if match["wi"] and match["width"] not in (None, "*"):
            good = False  # digits behind an index are no width
        if match["point"]:
            good = self._go_to(match["pi"]) and good
            faults += self._precision(match, spec)
        good = self._go_to(match["vi"]) and good
        verb = match["verb"]
        if (spec.width or 0) > WIDEST or (spec.precision or 0) > WIDEST:
            raise FunctionError(f"a width or precision is above {WIDEST}")
        if verb is None:
            return faults + "%!(NOVERB)"
        if verb == "%":
            return faults + "%"
        if not good:
            return f"{faults}%!{verb}(BADINDEX)"
        if self._next >= len(self._args):
            return f"{faults}%!{verb}(MISSING)"
        arg = self._args[self._next]
        self._next += 1
        if spec.minus:
            spec.zero = False
        if verb == "v":
            spec.syntax, spec.names = spec.sharp, spec.plus or spec.sharp
            spec.sharp = spec.plus = False
        return faults + self.value(arg, spec, verb, 0)

    def _width(self, match: re.Match[str], spec: Spec) -> str:
        """Sets the width. What it returns is the text of what is wrong with it."""
        if match["width"] != "*":
            spec.width = None if match["width"] is None else int(match["width"][:8])
            return ""
        spec.width, fault = self._star("WIDTH")
        if spec.width is not None and spec.width < 0:
            spec.width, spec.minus = -spec.width, True
        return fault

    def _precision(self, match: re.Match[str], spec: Spec) -> str:
        if match["precision"] != "*":
            spec.precision = int((match["precision"] or "0")[:8])
            return ""
        spec.precision, fault = self._star("PREC")
        if spec.precision is not None and spec.precision < 0:
            spec.precision = None
            return "%!(BADPREC)"
        return fault

    def _go_to(self, index: str | None) -> bool:
        """Goes to the argument that `[n]` names. False if there is none of that number."""
        if index is None:
            return True
        self._reordered = True
        number = index[1:-1]
        if (
            not number.isascii()
            or not number.isdigit()
            or not 1 <= int(number[:9]) <= len(self._args)
        ):
            return False
        self._next = int(number) - 1
        return True

    def _star(self, what: str) -> tuple[int | None, str]:
        """The next argument as a width or precision, or the text of what is wrong with it."""
        if self._next >= len(self._args):
            return None, f"%!(BAD{what})"
        value = self._args[self._next]
        self._next += 1
        if not is_int(value) or abs(value) > WIDEST:
            return None, f"%!(BAD{what})"
        return int(value), ""

    # Values

    def value(self, value: Any, spec: Spec, verb: str, depth: int) -> str:
        """One value by one verb."""
        self._budget.step()
        if value is NO_VALUE:
            value = None
        if verb == "T":
            return pad(type_name(value), spec)
        if value is None:
            if depth:
                return "interface {}(nil)" if spec.syntax else "<nil>"
            return pad("<nil>", spec) if verb == "v" else f"%!{verb}(<nil>)"
        if verb in "pw":
            return self._bad(value, spec, verb)
        if not (verb == "v" and spec.syntax) and verb in "vsxXq" and "String" in methods_of(value):
            return string_text(str(value), spec, verb) or ""
        if isinstance(value, bool):
            shown = pad("true" if value else "false", spec) if verb in "tv" else None
        elif isinstance(value, int):
            shown = integer_text(int(value), spec, verb)
        elif isinstance(value, float):
            shown = float_text(value, spec, verb)
        elif isinstance(value, complex):
            shown = complex_text(value, spec, verb)
        elif isinstance(value, str):
            shown = string_text(value, spec, verb)
        else:
            return self._composite(value, spec, verb, depth)
        return self._bad(value, spec, verb) if shown is None else shown

    def _bad(self, value: Any, spec: Spec, verb: str) -> str:
        return f"%!{verb}({type_name(value)}={self.value(value, spec, 'v', 0)})"

    def _composite(self, value: Any, spec: Spec, verb: str, depth: int) -> str:
        self._budget.enter()
        if isinstance(value, dict):
            keys = sorted(value, key=sort_key)
            pairs = [(self.value(k, spec, verb, depth + 1), value[k]) for k in keys]
            shown = [f"{k}:{self.value(v, spec, verb, depth + 1)}" for k, v in pairs]
            opening, close = ("map[", "]") if not spec.syntax else (f"{type_name(value)}{{", "}")
        elif isinstance(value, list):
            shown = [self.value(v, spec, verb, depth + 1) for v in value]
            opening, close = ("[", "]") if not spec.syntax else (f"{type_name(value)}{{", "}")
        elif isinstance(value, Members):
            fields = [
                (name, self.value(getattr(value, attribute), spec, verb, depth + 1))
                for name, attribute in value.template_fields.items()
            ]
            shown = [f"{name}:{text}" if spec.names else text for name, text in fields]
            opening, close = ("{", "}") if not spec.syntax else (f"{value.go_type}{{", "}")
        else:
            shown, opening, close = [str(value)], "", ""
        self._budget.leave()
        text = opening + (", " if spec.syntax else " ").join(shown) + close
        self._budget.made(len(text))
        return text
