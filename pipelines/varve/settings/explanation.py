"""Why settings are refused, a line a setting: its origin, its name and what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, tree: type[BaseModel], origins: Mapping[str, str]) -> str:
    """A line for each setting of `tree` that is wrong.

    origins: where the value of each dotted key came from.
    """
    return "\n".join(_line(each, tree, origins) for each in error.errors())


def _line(error: Any, tree: type[BaseModel], origins: Mapping[str, str]) -> str:
    where = [str(part) for part in error["loc"]]
    key = ".".join(where)
    origin = next(
        (o for k, o in origins.items() if k == key or k.startswith(key + ".")), "settings"
    )
    if error["type"] == "extra_forbidden":
        return f"{origin}: there is no setting {key}{_hint(where, tree)}"
    if error["type"] == "model_type":
        return f"{origin}: {key} is a section of settings, not a value: write [{key}]"
    message = error["msg"].removeprefix("Value error, ")
    return f"{origin}: {key or 'settings'}: {message[0].lower()}{message[1:]}"


def _hint(where: list[str], tree: type[BaseModel]) -> str:
    """The nearest setting that there is, if one is near."""
    section: Any = tree
    for part in where[:-1]:
        section = section.model_fields[part].annotation
    near = difflib.get_close_matches(where[-1], section.model_fields, n=1, cutoff=0.5)
    return f"; did you mean {'.'.join([*where[:-1], near[0]])}?" if near else ""
