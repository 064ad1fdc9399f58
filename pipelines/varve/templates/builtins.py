"""The functions that every template has, but for `and` and `or`, which the evaluator knows.

Source: Go, text/template, funcs.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus

from varve.templates import go_format
from varve.templates.budget import Budget
from varve.templates.errors import FunctionError
from varve.templates.go_time import Time
from varve.templates.values import (
    ANY,
    NO_VALUE,
    Byte,
    Function,
    Members,
    decode,
    encode,
    is_int,
    is_true,
    type_name,
)

_HTML: Final = str.maketrans(
    {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
)
_JS: Final = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
}


def escape_html(text: str) -> str:
    return text.translate(_HTML)


def escape_js(text: str) -> str:
    """For the inside of a JavaScript string."""
    return "".join(_js_character(c) for c in text)


def _js_character(char: str) -> str:
    if char in _JS:
        return _JS[char]
    code = ord(char)
    if code < 0x20:
        return f"\\u{code:04X}"
    return char if code < 0x80 or char.isprintable() else f"\\u{code:04X}"


def escape_query(text: str) -> str:
    """For a value in the query of an address."""
    return quote_plus(encode(text), safe="")


def joined(values: tuple[Any, ...], budget: Budget) -> str:
    """The arguments of html, js and urlquery as one string."""
    shown = ["<no value>" if value is None else value for value in values]
    return go_format.sprint(shown, budget)


def _html(budget: Budget, *values: Any) -> str:
    return escape_html(joined(values, budget))


def _js(budget: Budget, *values: Any) -> str:
    return escape_js(joined(values, budget))


def _urlquery(budget: Budget, *values: Any) -> str:
    return escape_query(joined(values, budget))


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(encode(value))
    if isinstance(value, (list, dict)):
        return len(value)
    raise FunctionError(
        "len of nil pointer" if value is None else f"len of type {type_name(value)}"
    )


def _index(value: Any, *places: Any) -> Any:
    if value is None:
        raise FunctionError("index of untyped nil")
    for place in places:
        value = _entry(value, place)
    return value


def _entry(value: Any, place: Any) -> Any:
    if isinstance(value, dict):
        return _map_entry(value, place)
    if isinstance(value, (str, list)):
        data = encode(value) if isinstance(value, str) else value
        place = _whole(place, "index")
        if not 0 <= place < len(data):
            raise FunctionError(f"index out of range: {place}")
        return Byte(data[place]) if isinstance(value, str) else data[place]
    if value is None or value is NO_VALUE:
        raise FunctionError("index of untyped nil")
    raise FunctionError(f"can't index item of type {type_name(value)}")


def _map_entry(value: dict[Any, Any], place: Any) -> Any:
    if not isinstance(place, str):
        raise FunctionError(f"value has type {type_name(place)}; should be string")
    return value.get(place, zero_of(value))


def zero_of(value: dict[Any, Any]) -> Any:
    """What a map answers for a key that it lacks."""
    return None if type_name(value) == "map[string]interface {}" else ""


def _whole(place: Any, what: str) -> int:
    if place is None:
        raise FunctionError(f"cannot {what} with a nil value")
    if not is_int(place):
        raise FunctionError(f"cannot {what} with type {type_name(place)}")
    return int(place)


def _slice(value: Any, *places: Any) -> Any:
    if not isinstance(value, (str, list)):
        if value is None:
            raise FunctionError("slice of untyped nil")
        raise FunctionError(f"can't slice item of type {type_name(value)}")
    most = 2 if isinstance(value, str) else 3
    if len(places) > most:
        raise FunctionError(f"too many slice indexes: {len(places)}")
    data = encode(value) if isinstance(value, str) else value
    ends = [0, len(data), len(data)]
    for i, place in enumerate(places):
        ends[i] = _whole(place, "index slice")
        if not 0 <= ends[i] <= len(data):
            raise FunctionError(f"index out of range: {ends[i]}")
    if not ends[0] <= ends[1] <= ends[2]:
        raise FunctionError(f"invalid slice index: {ends[0]} > {ends[1]}")
    cut = data[ends[0] : ends[1]]
    return decode(cut) if isinstance(cut, bytes) else type(value)(cut)


def _kind(value: Any) -> str:
    """What may be compared with each other."""
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((int, "int"), (float, "float"), (complex, "complex"), (str, "string")):
        if isinstance(value, kind):
            return name
    raise FunctionError("invalid type for comparison")


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(left: Any, right: Any) -> bool:
    left, right = (None if value is NO_VALUE else value for value in (left, right))
    if left is None or right is None:
        return left is right
    for value in (left, right):
        if isinstance(value, (list, dict)):
            raise FunctionError(f"non-comparable type {type_name(value)}")
    if isinstance(left, Members) and isinstance(right, Members) and type(left) is type(right):
        return left == right if isinstance(left, Time) else left is right
    if _kind(left) != _kind(right):
        raise FunctionError("incompatible types for comparison")
    return bool(left == right)


def _differs(left: Any, right: Any) -> bool:
    return not _same(left, right)


def _less(left: Any, right: Any) -> bool:
    kinds = _kind(left), _kind(right)
    if kinds[0] != kinds[1]:
        raise FunctionError("incompatible types for comparison")
    if kinds[0] in ("bool", "complex"):
        raise FunctionError("invalid type for comparison")
    if kinds[0] == "string":
        return encode(left) < encode(right)
    return bool(left < right)


def _less_or_equal(left: Any, right: Any) -> bool:
    return _less(left, right) or _same(left, right)


def _greater(left: Any, right: Any) -> bool:
    return not _less_or_equal(left, right)


def _greater_or_equal(left: Any, right: Any) -> bool:
    return not _less(left, right)


def _call(value: Any, *_args: Any) -> Any:
    raise FunctionError(
        "call of nil" if value is None else f"non-function of type {type_name(value)}"
    )


def _refuse(*_args: Any) -> Any:  # pragma: no cover - the evaluator does these two itself
    raise FunctionError("the evaluator calls `and` and `or`")


def _print(budget: Budget, *values: Any) -> str:
    return go_format.sprint(values, budget)


def _println(budget: Budget, *values: Any) -> str:
    return go_format.sprintln(values, budget)


def _printf(budget: Budget, template: str, *values: Any) -> str:
    return go_format.sprintf(template, values, budget)


_TEXT_OF_ANY: Final = {"html": _html, "js": _js, "urlquery": _urlquery, "print": _print,
                       "println": _println}  # fmt: skip

BUILTINS: Final[Mapping[str, Function]] = {
    "and": Function((ANY, ANY), _refuse, variadic=True),
    "or": Function((ANY, ANY), _refuse, variadic=True),
    "not": Function((ANY,), lambda value: not is_true(value)),
    "len": Function((ANY,), _length),
    "index": Function((ANY, ANY), _index, variadic=True),
    "slice": Function((ANY, ANY), _slice, variadic=True),
    "call": Function((ANY, ANY), _call, variadic=True),
    "eq": Function((ANY, ANY), _equal, variadic=True),
    "ne": Function((ANY, ANY), _differs),
    "lt": Function((ANY, ANY), _less),
    "le": Function((ANY, ANY), _less_or_equal),
    "gt": Function((ANY, ANY), _greater),
    "ge": Function((ANY, ANY), _greater_or_equal),
    "printf": Function(("string", ANY), _printf, variadic=True, bounded=True),
    **{
        name: Function((ANY,), call, variadic=True, bounded=True)
        for name, call in _TEXT_OF_ANY.items()
    },
}
