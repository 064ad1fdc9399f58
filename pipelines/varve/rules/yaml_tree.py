"""Reads YAML with positions, and every plain scalar as text: `yes` is a word and 0500 no number.

The files of rules and of their tests are read by this. What is wrong with them is collected, so
that a person sees all of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from varve.promql.syntax.literals import parse_duration
from varve.rules.errors import Problem, RuleFileError

_NULLS: Final = frozenset(["", "~", "null", "Null", "NULL"])
_TRUE: Final = frozenset(["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"])
_FALSE: Final = frozenset(
    ["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"]
)
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[0-9][0-9_]*)")
_MERGE: Final = "<<"
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class Tree:
    """A part of a document. A reader that wants something else notes a problem."""

    def __init__(self, node: yaml.Node, problems: list[Problem]) -> None:
        self._node = node
        self._problems = problems

    @property
    def line(self) -> int:
        return int(self._node.start_mark.line) + 1

    @property
    def column(self) -> int:
        return int(self._node.start_mark.column) + 1

    @property
    def is_null(self) -> bool:
        """Whether it is nothing, written as such."""
        node = self._node
        return isinstance(node, yaml.ScalarNode) and not node.style and node.value in _NULLS

    def problem(self, message: str) -> None:
        """Notes what is wrong here."""
        self._problems.append(Problem(self.line, self.column, message))

    def text(self) -> str:
        """A scalar as it is written."""
        if not isinstance(self._node, yaml.ScalarNode):
            self.problem(f"text is wanted here, not {_kind(self._node)}")
            return ""
        return "" if self.is_null else str(self._node.value)

    def integer(self) -> int:
        text = self.text()
        if self.is_null:
            return 0
        if not _INTEGER.fullmatch(text):
            self.problem(f"a whole number is wanted here, not {text!r}")
            return 0
        digits = text.replace("_", "").lstrip("+-")
        if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            digits = "0o" + digits[1:]
        return int(digits, 0) * (-1 if text[0] == "-" else 1)

    def boolean(self) -> bool:
        text = self.text()
        if text not in _TRUE and text not in _FALSE and not self.is_null:
            self.problem(f"true or false is wanted here, not {text!r}")
        return text in _TRUE

    def number(self) -> float:
        text = self.text().replace("_", "")
        special = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
        try:
            return float(special.get(text.lower(), text))
        except ValueError:
            try:
                return float(int(text, 0))
            except ValueError:
                self.problem(f"a number is wanted here, not {text!r}")
                return 0.0

    def duration_ms(self) -> int:
        """A duration such as 1h30m; 0 may be without a unit."""
        text = self.text()
        if self.is_null or text == "0":
            return 0
        try:
            return round(parse_duration(text) * 1000)
        except ValueError as error:
            self.problem(str(error) if text else "empty duration string")
            return 0

    def items(self) -> list[Tree]:
        """The parts of a list."""
        if self.is_null:
            return []
        if not isinstance(self._node, yaml.SequenceNode):
            self.problem(f"a list is wanted here, not {_kind(self._node)}")
            return []
        return [Tree(node, self._problems) for node in self._node.value]

    def entries(self) -> list[tuple[Tree, Tree]]:
        """Keys and values of a mapping, what is merged into it by `<<` included."""
        if self.is_null:
            return []
        if not isinstance(self._node, yaml.MappingNode):
            self.problem(f"a mapping is wanted here, not {_kind(self._node)}")
            return []
        return list(_pairs(self._node, self._problems, {}).values())

    def texts(self) -> dict[str, str]:
        """A mapping of texts."""
        return {key.text(): value.text() for key, value in self.entries()}

    def fields(self, known: frozenset[str], kind: str, *, strict: bool = True) -> Fields:
        """A mapping whose keys are known; another one is a problem if `strict`."""
        found: dict[str, Tree] = {}
        for key, value in self.entries():
            name = key.text()
            if name in known:
                found[name] = value
            elif strict:
                key.problem(f"field {name} not found in {kind}")
        return Fields(self, found)


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of a mapping with known keys. What is not there is empty, 0 or false."""

    at: Tree
    found: Mapping[str, Tree]

    def __contains__(self, name: str) -> bool:
        return name in self.found and not self.found[name].is_null

    def tree(self, name: str) -> Tree:
        """The value, or the mapping itself where there is none, for its position."""
        return self.found.get(name, self.at)

    def text(self, name: str) -> str:
        return self.found[name].text() if name in self.found else ""

    def integer(self, name: str) -> int:
        return self.found[name].integer() if name in self.found else 0

    def boolean(self, name: str) -> bool:
        return self.found[name].boolean() if name in self.found else False

    def duration_ms(self, name: str) -> int:
        return self.found[name].duration_ms() if name in self.found else 0

    def texts(self, name: str) -> dict[str, str]:
        return self.found[name].texts() if name in self.found else {}

    def entries(self, name: str) -> list[tuple[Tree, Tree]]:
        return self.found[name].entries() if name in self.found else []

    def items(self, name: str) -> list[Tree]:
        return self.found[name].items() if name in self.found else []


Pairs = dict[str, tuple[Tree, Tree]]
"""Keys and values of a mapping, by the text of the key."""


def read(text: str, problems: list[Problem]) -> Tree | None:
    """The first document of a text, None if it is empty. Raises RuleFileError if it is no YAML."""
    loader = _Loader(text)
    try:
        node = loader.get_node() if loader.check_node() else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise RuleFileError([Problem(line, column, f"no YAML: {error.problem}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RuleFileError([Problem(1, 1, f"no YAML: {error}")]) from None
    finally:
        loader.dispose()
    return None if node is None else Tree(node, problems)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "text"


def _pairs(node: yaml.MappingNode, problems: list[Problem], known: dict[int, Pairs]) -> Pairs:
    """The entries of a mapping by key; its own replace those that are merged into it.

    known: the entries of mappings that were met already, by the id of the node. One that is not
    finished merges itself and has none.
    """
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = {}
    merged: Pairs = {}
    own: Pairs = {}
    for key, value in node.value:
        tree = Tree(key, problems)
        if isinstance(key, yaml.ScalarNode) and key.value == _MERGE and not key.style:
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in reversed(sources):
                if isinstance(source, yaml.MappingNode):
                    merged |= _pairs(source, problems, known)
                else:
                    tree.problem("only mappings can be merged")
            continue
        name = tree.text()
        if name in own:
            tree.problem(f"{name!r} is already there in line {own[name][0].line}")
        own[name] = tree, Tree(value, problems)
    known[id(node)] = merged | own
    return known[id(node)]
