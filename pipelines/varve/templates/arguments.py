"""Makes arguments of what a template gives to a function. Source: Go, text/template, evalArg."""

from __future__ import annotations

from typing import Any, Final

from varve.templates.errors import FunctionError
from varve.templates.nodes import Bool, Nil, Number, Operand, String
from varve.templates.values import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    NO_VALUE,
    STRING,
    Function,
    is_int,
    type_name,
)

_SCALARS: Final = (BOOL, INT, FLOAT, STRING)
LITERALS: Final = (Bool, Nil, Number, String)


def check_count(name: str, function: Function, count: int) -> None:
    """Raises FunctionError if so many arguments are too many or too few."""
    wanted = len(function.parameters)
    if function.variadic:
        if count < wanted - 1:
            raise FunctionError(
                f"wrong number of args for {name}: want at least {wanted - 1} got {count}"
            )
    elif count != wanted:
        raise FunctionError(f"wrong number of args for {name}: want {wanted} got {count}")


def parameter(function: Function, place: int) -> str:
    """The Go type of the argument at `place`."""
    return function.parameters[min(place, len(function.parameters) - 1)]


def literal(node: Operand, wanted: str) -> Any:
    """The value of a literal as an argument: a number fits what the parameter is."""
    if isinstance(node, Nil):
        if wanted in _SCALARS or wanted.startswith("time."):
            raise FunctionError(f"cannot assign nil to {wanted}")
        return None
    if isinstance(node, Number) and wanted in (INT, FLOAT):
        value = node.value
        if wanted == FLOAT and isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
            return int(value)
        if not isinstance(value, int):
            raise FunctionError(f"expected {_article(wanted)}; found {node.text}")
        return value
    if isinstance(node, (Bool, Number, String)):
        shown = node.text if isinstance(node, Number) else repr(node.value)
        if wanted != ANY and type_name(node.value) != wanted:
            if wanted in _SCALARS:
                raise FunctionError(f"expected {_article(wanted)}; found {shown}")
            raise FunctionError(f"can't handle {shown} for arg of type {wanted}")
        return node.value
    raise FunctionError("not a literal")  # pragma: no cover


def _article(wanted: str) -> str:
    return {BOOL: "bool", INT: "integer", FLOAT: "float", STRING: "string"}[wanted]


def checked(value: Any, wanted: str) -> Any:
    """`value` as an argument of that type. Raises FunctionError if it is of another."""
    if wanted == ANY:
        return None if value is NO_VALUE else value
    if value is None or value is NO_VALUE:
        if wanted in _SCALARS or wanted.startswith("time."):
            raise FunctionError(f"invalid value; expected {wanted}")
        return None
    if wanted == STRING:
        fits = isinstance(value, str)
    elif wanted == INT:
        fits = is_int(value)
    else:
        fits = type_name(value) == wanted
    if not fits:
        raise FunctionError(f"wrong type for value; expected {wanted}; got {type_name(value)}")
    return value
