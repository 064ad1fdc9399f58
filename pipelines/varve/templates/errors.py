"""Why a template cannot be used, and where."""

from __future__ import annotations

from varve.model.errors import VarveError


class TemplateError(VarveError):
    """A template does not parse, or fails while it is expanded.

    str() is `name:line:column: message`; both count from 1, the column in characters. `offset` is
    the place in the text, in characters.
    """

    def __init__(self, message: str, name: str, text: str, offset: int) -> None:
        line = text.count("\n", 0, offset) + 1
        column = offset - (text.rfind("\n", 0, offset) + 1) + 1
        super().__init__(f"{name}:{line}:{column}: {message}")
        self.message = message
        self.name = name
        self.line = line
        self.column = column
        self.offset = offset


class FunctionError(VarveError):
    """A function or a value refuses what it was asked for; the evaluator adds the place."""
