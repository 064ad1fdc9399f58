"""Expands a tree over data. Source: Go, text/template, exec.go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from varve.templates import arguments
from varve.templates.budget import Budget
from varve.templates.builtins import zero_of
from varve.templates.errors import FunctionError, TemplateError
from varve.templates.nodes import (
    Action,
    Block,
    Bool,
    Break,
    Call,
    Chain,
    Command,
    Continue,
    Definition,
    Dot,
    Field,
    Identifier,
    If,
    Nil,
    Number,
    Operand,
    Pipe,
    Range,
    String,
    Text,
    Variable,
    With,
)
from varve.templates.values import (
    ANY,
    NO_VALUE,
    Function,
    Members,
    is_int,
    is_true,
    methods_of,
    sort_key,
    type_name,
)


class Output(Protocol):
    """Where what a template gives is put together."""

    def text(self, text: str) -> None:
        """Text of the template itself."""

    def value(self, value: Any) -> None:
        """The value of an action."""


class _Missing:
    """The type of _MISSING."""


_MISSING: Final = _Missing()
"""Stands for the last argument where no value comes through a pipeline."""


class _BreakLoop(Exception):
    """`{{ break }}`."""


class _NextRound(Exception):
    """`{{ continue }}`."""


class Evaluator:
    """One expansion. Functions and values are the caller's; `output` takes what comes out."""

    def __init__(
        self,
        definitions: Mapping[str, Definition],
        functions: Mapping[str, Function],
        output: Output,
        budget: Budget,
    ) -> None:
        self._definitions = definitions
        self._functions = functions
        self._output = output
        self._budget = budget
        self._variables: list[tuple[str, Any]] = []
        self._source = Definition((), "", "")
        self._at = 0

    def expand(self, name: str, data: Any, variables: Mapping[str, Any]) -> None:
        """Expands the template `name`. Raises TemplateError, with the place that it got to."""
        try:
            self._call(name, data, variables)
        except FunctionError as error:
            message = str(error)
        except RecursionError:
            message = "too many levels inside each other"
        else:
            return
        raise TemplateError(message, self._source.source, self._source.text, self._at) from None

    def _call(self, name: str, data: Any, variables: Mapping[str, Any]) -> None:
        definition = self._definitions.get(name)
        if definition is None:
            raise FunctionError(f'template "{name}" not defined')
        outer = self._variables, self._source
        self._variables = [("$", data), *variables.items()]
        self._source = definition
        self._block(data, definition.body)
        self._variables, self._source = outer

    # Nodes

    def _block(self, dot: Any, block: Block) -> None:
        self._budget.enter()
        for node in block:
            self._budget.step()
            self._at = node.at
            _NODES[type(node)](self, dot, node)
        self._budget.leave()

    def _text(self, _dot: Any, node: Text) -> None:
        self._output.text(node.text)

    def _action(self, dot: Any, node: Action) -> None:
        value = self._pipe(dot, node.pipe)
        if not node.pipe.variables:
            self._at = node.at
            self._output.value(value)

    def _if(self, dot: Any, node: If) -> None:
        seen = len(self._variables)
        chosen = node.body if is_true(self._pipe(dot, node.pipe)) else node.otherwise
        self._block(dot, chosen)
        del self._variables[seen:]

    def _with(self, dot: Any, node: With) -> None:
        seen = len(self._variables)
        value = self._pipe(dot, node.pipe)
        if is_true(value):
            self._block(value, node.body)
        else:
            self._block(dot, node.otherwise)
        del self._variables[seen:]

    def _range(self, dot: Any, node: Range) -> None:
        seen = len(self._variables)
        value = self._pipe(dot, node.pipe)
        inside, depth = len(self._variables), self._budget.depth
        is_empty = True
        for place, element in _elements(value, node.pipe):
            is_empty = False
            self._budget.step()
            self._set_range_variables(node.pipe, place, element)
            try:
                self._block(element, node.body)
            except _NextRound:
                pass
            except _BreakLoop:
                break
            finally:
                self._budget.depth = depth
            del self._variables[inside:]
        del self._variables[inside:]
        if is_empty:
            self._block(dot, node.otherwise)
        del self._variables[seen:]

    def _set_range_variables(self, pipe: Pipe, place: Any, element: Any) -> None:
        names = pipe.variables
        values = (element,) if len(names) == 1 else (place, element)
        if pipe.is_assignment:
            for name, value in zip(names, values, strict=False):
                self._assign(name, value)
        elif names:
            self._variables[-len(names) :] = list(zip(names, values, strict=True))

    def _template(self, dot: Any, node: Call) -> None:
        data = NO_VALUE if node.pipe is None else self._pipe(dot, node.pipe)
        self._at = node.at
        self._call(node.name, data, {})

    def _break(self, _dot: Any, _node: Break) -> None:
        raise _BreakLoop

    def _continue(self, _dot: Any, _node: Continue) -> None:
        raise _NextRound

    # Values

    def _pipe(self, dot: Any, pipe: Pipe) -> Any:
        value: Any = _MISSING
        for command in pipe.commands:
            value = self._command(dot, command, value)
            if value is None:
                value = NO_VALUE
        for name in pipe.variables:
            if pipe.is_assignment:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _assign(self, name: str, value: Any) -> None:
        for i in range(len(self._variables) - 1, -1, -1):
            if self._variables[i][0] == name:
                self._variables[i] = (name, value)
                return
        raise FunctionError(f'undefined variable "{name}"')

    def _variable(self, name: str) -> Any:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise FunctionError(f'undefined variable "{name}"')

    def _command(self, dot: Any, command: Command, final: Any) -> Any:
        self._budget.step()
        first, args = command.args[0], command.args[1:]
        self._at = first.at
        if isinstance(first, Identifier):
            return self._function(dot, first, args, final)
        if isinstance(first, Field):
            return self._members(dot, dot, first.names, args, final)
        if isinstance(first, Chain):
            receiver = self._operand(dot, first.node)
            return self._members(dot, receiver, first.names, args, final)
        if isinstance(first, Variable):
            value = self._variable(first.name)
            if first.names:
                return self._members(dot, value, first.names, args, final)
            self._no_arguments(args, final)
            return value
        self._no_arguments(args, final)
        if isinstance(first, Nil):
            raise FunctionError("nil is not a command")
        return self._operand(dot, first)

    def _no_arguments(self, args: tuple[Operand, ...], final: Any) -> None:
        if args or final is not _MISSING:
            raise FunctionError("can't give argument to non-function")

    def _operand(self, dot: Any, node: Operand) -> Any:
        """The value of an operand that gets no arguments."""
        self._at = node.at
        if isinstance(node, Dot):
            return dot
        if isinstance(node, Field):
            return self._members(dot, dot, node.names, (), _MISSING)
        if isinstance(node, Variable):
            value = self._variable(node.name)
            return self._members(dot, value, node.names, (), _MISSING) if node.names else value
        if isinstance(node, Pipe):
            return self._pipe(dot, node)
        if isinstance(node, Identifier):
            return self._function(dot, node, (), _MISSING)
        if isinstance(node, Chain):
            return self._members(dot, self._operand(dot, node.node), node.names, (), _MISSING)
        if isinstance(node, (Bool, Number, String)):
            return node.value
        return None

    def _function(self, dot: Any, node: Identifier, args: tuple[Operand, ...], final: Any) -> Any:
        function = self._functions.get(node.name)
        if function is None:
            raise FunctionError(f'"{node.name}" is not a defined function')
        if node.name in ("and", "or"):
            return self._and_or(dot, node, args, final)
        return self._apply(dot, node.name, function, (), args, final, node.at)

    def _and_or(self, dot: Any, node: Identifier, args: tuple[Operand, ...], final: Any) -> Any:
        """Arguments are evaluated up to the one that decides."""
        count = len(args) + (final is not _MISSING)
        arguments.check_count(node.name, self._functions[node.name], count)
        value: Any = None
        for arg in args:
            value = self._argument(dot, arg, ANY)
            if is_true(value) == (node.name == "or"):
                return value
        return value if final is _MISSING else final

    def _apply(
        self,
        dot: Any,
        name: str,
        function: Function,
        receiver: tuple[Any, ...],
        args: tuple[Operand, ...],
        final: Any,
        at: int,
    ) -> Any:
        has_final = final is not _MISSING
        arguments.check_count(name, function, len(args) + has_final)
        values = [
            self._argument(dot, arg, arguments.parameter(function, i)) for i, arg in enumerate(args)
        ]
        self._at = at
        if has_final:
            wanted = arguments.parameter(function, len(args))
            values.append(arguments.checked(final, wanted))
        first = (self._budget,) if function.bounded else ()
        try:
            value = function.call(*first, *receiver, *values)
        except FunctionError as error:
            raise FunctionError(f"error calling {name}: {error}") from None
        if isinstance(value, str):
            self._budget.made(len(value))
        elif isinstance(value, (list, dict)):
            self._budget.step(len(value))
        return value

    def _argument(self, dot: Any, node: Operand, wanted: str) -> Any:
        self._at = node.at
        if isinstance(node, arguments.LITERALS):
            return arguments.literal(node, wanted)
        return arguments.checked(self._operand(dot, node), wanted)

    def _members(
        self, dot: Any, receiver: Any, names: tuple[str, ...], args: tuple[Operand, ...], final: Any
    ) -> Any:
        """Members of members; the arguments are for the last."""
        at = self._at
        for name in names[:-1]:
            receiver = self._member(dot, receiver, name, (), _MISSING, at)
        return self._member(dot, receiver, names[-1], args, final, at)

    def _member(
        self, dot: Any, receiver: Any, name: str, args: tuple[Operand, ...], final: Any, at: int
    ) -> Any:
        self._budget.step()
        if receiver is NO_VALUE:
            return NO_VALUE
        if receiver is None:
            raise FunctionError(f"nil pointer evaluating interface {{}}.{name}")
        method = methods_of(receiver).get(name)
        if method is not None:
            return self._apply(dot, name, method, (receiver,), args, final, at)
        has_arguments = bool(args) or final is not _MISSING
        if isinstance(receiver, Members) and name in receiver.template_fields:
            if has_arguments:
                raise FunctionError(f"{name} has arguments but cannot be invoked as function")
            return getattr(receiver, receiver.template_fields[name])
        if isinstance(receiver, dict):
            if has_arguments:
                raise FunctionError(f"{name} is not a method but has arguments")
            return receiver[name] if name in receiver else zero_of(receiver)
        raise FunctionError(f"can't evaluate field {name} in type {type_name(receiver)}")


def _elements(value: Any, pipe: Pipe) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value, key=sort_key)]
    if is_int(value):
        if len(pipe.variables) > 1:
            raise FunctionError(f"can't use {value} to iterate over more than one variable")
        return ((i, i) for i in range(value))
    if value is None or value is NO_VALUE:
        return ()
    raise FunctionError(f"range can't iterate over a value of type {type_name(value)}")


_NODES: Final[Mapping[type, Callable[[Evaluator, Any, Any], None]]] = {
    Text: Evaluator._text,  # noqa: SLF001 - the table of its methods
    Action: Evaluator._action,  # noqa: SLF001
    If: Evaluator._if,  # noqa: SLF001
    With: Evaluator._with,  # noqa: SLF001
    Range: Evaluator._range,  # noqa: SLF001
    Call: Evaluator._template,  # noqa: SLF001
    Break: Evaluator._break,  # noqa: SLF001
    Continue: Evaluator._continue,  # noqa: SLF001
}
