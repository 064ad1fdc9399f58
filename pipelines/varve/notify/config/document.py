"""A YAML file as plain values with positions, and errors that say where something is wrong.

PyYAML's BaseLoader leaves every scalar a text, so that `yes` and `0500` are what was written; the
type that a field wants decides what becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from varve.model.errors import VarveError

Path = tuple[str | int, ...]

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_MAX_NODES = 1_000_000
"""More is no configuration: aliases of aliases grow without bound."""


class ConfigError(VarveError):
    """A configuration cannot be used. The text has one line for each thing that is wrong."""


class Plain(str):
    """A scalar without quotes: the only kind that numbers and truth values are written in."""

    __slots__ = ()


@dataclass(frozen=True)
class Document:
    """The first document of a YAML text."""

    name: str
    """Of the file, for errors."""
    value: Any
    """Mappings, lists and texts, Plain where there were no quotes; None for null."""
    positions: dict[Path, tuple[int, int]]
    """Line and column, both from 1, of each value."""

    def at(self, path: Path, message: str) -> str:
        """`file:line:column: path: message`, of the nearest value that is there."""
        known = path
        while known not in self.positions and known:
            known = known[:-1]
        line, column = self.positions.get(known, (1, 1))
        where = path_text(path)
        return f"{self.name}:{line}:{column}: {where + ': ' if where else ''}{message}"

    def error(self, path: Path, message: str) -> ConfigError:
        return ConfigError(self.at(path, message))

    def errors_of(self, error: ValidationError) -> ConfigError:
        """What pydantic found, each with its position, in the order of the file."""
        lines = {}
        for found in error.errors(include_url=False, include_context=False, include_input=False):
            path = tuple(part for part in found["loc"] if part != "[key]")
            lines[self.at(path, _words(found["type"], found["msg"]))] = self._order(path)
        return ConfigError("\n".join(sorted(lines, key=lambda line: lines[line])))

    def _order(self, path: Path) -> tuple[int, int]:
        while path not in self.positions and path:
            path = path[:-1]
        return self.positions.get(path, (0, 0))


def read_document(text: str, name: str) -> Document:
    """Parses YAML. Raises ConfigError if it is none, or gives a key of a mapping twice."""
    loader = yaml.BaseLoader(text)
    try:
        loader.check_node()  # skips the beginning of the stream
        node = loader.get_node() if loader.check_node() else None
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{name}{where}: {err.problem or err.context}") from None
    except (yaml.YAMLError, RecursionError) as err:
        raise ConfigError(f"{name}: {err}") from None
    finally:
        loader.dispose()
    reader = _Reader(name)
    value = reader.read(node, ()) if node is not None else None
    return Document(name, value, reader.positions)


def written(value: Any) -> str:
    """A value of a document as YAML, comments and aliases gone."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096))


def redacted(value: Any, model: Any) -> Any:
    """`value` with `<secret>` in place of each text that `model`, read from it, takes for one."""
    if isinstance(model, SecretStr) and hasattr(model, "shown"):
        return model.shown
    if isinstance(model, SecretStr):
        return "<secret>" if value not in (None, "") else value
    if isinstance(model, BaseModel) and isinstance(value, dict):
        names = {field.alias or name: name for name, field in type(model).model_fields.items()}
        return {
            key: redacted(item, getattr(model, names[key])) if key in names else item
            for key, item in value.items()
        }
    if isinstance(model, dict) and isinstance(value, dict):
        return {key: redacted(item, model.get(key)) for key, item in value.items()}
    if isinstance(model, list | tuple) and isinstance(value, list):
        return [redacted(item, part) for item, part in zip(value, model, strict=False)]
    return value


def path_text(path: Path) -> str:
    """`receivers[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0
        self._open: set[int] = set()
        self.positions: dict[Path, tuple[int, int]] = {}

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise ConfigError(f"{self._name}: over {_MAX_NODES:,} values, aliases counted")
        self.positions[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.ScalarNode):
            if node.style is not None:
                return node.value
            return None if node.value in _NULLS else Plain(node.value)
        if id(node) in self._open:
            raise self._error(node, "an anchor contains itself")
        self._open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            value: Any = [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        else:
            value = self._mapping(node, path)  # type: ignore[arg-type] # there is no fourth kind
        self._open.discard(id(node))
        return value

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        value: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key has to be a text")
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                merged |= self._merged(value_node, path)
                continue
            if key in value:
                raise self._error(key_node, f"key {key!r} is there twice")
            value[key] = self.read(value_node, (*path, key))
            if isinstance(value_node, yaml.ScalarNode) and value_node.value == "":
                mark = key_node.start_mark
                self.positions[*path, key] = (mark.line + 1, mark.column + 1)
        return {**{k: v for k, v in merged.items() if k not in value}, **value}

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            read = self.read(part, path)
            if not isinstance(read, dict):
                raise self._error(part, "only mappings can be merged by <<")
            merged = read | merged
        return merged

    def _error(self, node: yaml.Node, message: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {message}")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _represent_plain(dumper: yaml.SafeDumper, value: Plain) -> yaml.Node:
    """Without quotes again: its tag is the one it would be read as."""
    tag = dumper.resolve(  # type: ignore[no-untyped-call]
        yaml.ScalarNode, str(value), (True, False)
    )
    return dumper.represent_scalar(tag, str(value))


_Dumper.add_representer(Plain, _represent_plain)


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such field here"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ")
