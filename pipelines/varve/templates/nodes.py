"""The tree of a template. `at` is the offset of a node in the text, in characters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or a character by its code. A float was written with a point or an exponent."""

    value: int | float | complex
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class String:
    value: str
    at: int


@dataclass(frozen=True, slots=True)
class Bool:
    value: bool
    at: int


@dataclass(frozen=True, slots=True)
class Nil:
    at: int


@dataclass(frozen=True, slots=True)
class Dot:
    at: int


@dataclass(frozen=True, slots=True)
class Field:
    """`.a.b`: members of dot."""

    names: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.a.b`: a variable, or members of it."""

    name: str
    names: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Identifier:
    """The name of a function."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Chain:
    """`(...).a.b`: members of what is in parentheses."""

    node: Operand
    names: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Command:
    """An operand, or a function or method with its arguments."""

    args: tuple[Operand, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands that each get the value of the one before as last argument.

    variables: those that the value is given to. is_assignment: they exist already.
    """

    commands: tuple[Command, ...]
    variables: tuple[str, ...]
    is_assignment: bool
    at: int


Operand = Number | String | Bool | Nil | Dot | Field | Variable | Identifier | Chain | Pipe


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Action:
    pipe: Pipe
    at: int


@dataclass(frozen=True, slots=True)
class If:
    pipe: Pipe
    body: Block
    otherwise: Block
    at: int


@dataclass(frozen=True, slots=True)
class With:
    pipe: Pipe
    body: Block
    otherwise: Block
    at: int


@dataclass(frozen=True, slots=True)
class Range:
    pipe: Pipe
    body: Block
    otherwise: Block
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """`{{ template "name" pipe }}`."""

    name: str
    pipe: Pipe | None
    at: int


@dataclass(frozen=True, slots=True)
class Break:
    at: int


@dataclass(frozen=True, slots=True)
class Continue:
    at: int


Node = Text | Action | If | With | Range | Call | Break | Continue
Block = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """A named template. source, text: name and text of what it stands in, for errors."""

    body: Block
    source: str
    text: str

    @property
    def is_empty(self) -> bool:
        """Whether it gives nothing but white space; such a one replaces no other."""
        return all(isinstance(node, Text) and not node.text.strip() for node in self.body)
