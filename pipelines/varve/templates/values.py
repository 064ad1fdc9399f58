"""The values that templates work on: Python's, and some that know their Go type.

| Go | here |
| --- | --- |
| bool, int, float64, complex128, string | bool, int, float, complex, str |
| other integers, such as time.Month | a subclass of int with `go_type` |
| []any, []string | list, `Strings` |
| map[string]any, map[string]string | dict, `StringMap` |
| a struct, or anything with methods | a class with `template_fields`, `template_methods` |
| nil | None |
| no value at all: an entry that a map lacks, dot of a template that got none | NO_VALUE |

A string holds text; bytes that are no valid UTF-8 are lone surrogates. Lengths and places within
strings are counted in bytes of UTF-8, as Go does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final


class _NoValue:
    """The type of NO_VALUE."""

    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE: Final = _NoValue()

ANY: Final = "interface {}"
BOOL: Final = "bool"
INT: Final = "int"
FLOAT: Final = "float64"
STRING: Final = "string"
STRINGS: Final = "[]string"


@dataclass(frozen=True, slots=True)
class Function:
    """What a template may call.

    parameters: Go types of the arguments; of a variadic function the last is that of each further
    one. call: gets the arguments, and first the Budget if `bounded`; it raises FunctionError.
    """

    parameters: tuple[str, ...]
    call: Callable[..., Any]
    variadic: bool = False
    bounded: bool = False


class Members:
    """Base of values with fields and methods.

    template_fields: attribute by the name that templates use. template_methods: what may be called;
    the value itself is the first argument.
    """

    go_type: ClassVar[str] = "struct"
    template_fields: ClassVar[Mapping[str, str]] = {}
    template_methods: ClassVar[Mapping[str, Function]] = {}


class StringMap(dict[str, str]):
    """A map[string]string: what it lacks is the empty string."""

    go_type: ClassVar[str] = "map[string]string"
    template_methods: ClassVar[Mapping[str, Function]] = {}


class Strings(list[str]):
    """A []string."""

    go_type: ClassVar[str] = STRINGS
    template_methods: ClassVar[Mapping[str, Function]] = {}


class Int64(int):
    """An int64."""

    go_type: ClassVar[str] = "int64"


class Byte(int):
    """A byte of a string."""

    go_type: ClassVar[str] = "uint8"


class SafeHtml(str):
    """HTML that is not to be escaped in text."""

    go_type: ClassVar[str] = "template.HTML"
    __slots__ = ()


class EscapedHtml(SafeHtml):
    """What the function html made in an HTML template. raw: what it was given."""

    raw: str = ""


class SafeUrl(str):
    """An address that is not to be looked at for its scheme."""

    go_type: ClassVar[str] = "template.URL"
    __slots__ = ()


def type_name(value: Any) -> str:
    """The Go type of a value, as errors and %T name it."""
    named = getattr(value, "go_type", None)
    if named is not None:
        return str(named)
    if value is None or value is NO_VALUE:
        return "<nil>"
    for kind, name in _NAMES:
        if isinstance(value, kind):
            return name
    return type(value).__name__


_NAMES: Final = (
    (bool, BOOL),
    (int, INT),
    (float, FLOAT),
    (complex, "complex128"),
    (str, STRING),
    (list, "[]interface {}"),
    (dict, "map[string]interface {}"),
)


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_true(value: Any) -> bool:
    """Whether `if` takes a value for true: it is not the zero of its type. NaN is."""
    if isinstance(value, (bool, int, float, complex, str, list, dict)):
        return bool(value)
    return value is not None and value is not NO_VALUE


def methods_of(value: Any) -> Mapping[str, Function]:
    found: Mapping[str, Function] = getattr(value, "template_methods", {})
    return found


def encode(text: str) -> bytes:
    """The bytes of a string. A lone surrogate that stands for no byte becomes U+FFFD."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def sort_key(value: Any) -> tuple[int, Any]:
    """Order of the keys of a map."""
    if isinstance(value, float) and math.isnan(value):
        return (0, 0)
    return (1, value)
