"""Reads the pipelines of a template: what stands between two braces. See parser.py."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from varve.templates import lexer
from varve.templates.constants import read_character, read_number, read_string
from varve.templates.errors import TemplateError
from varve.templates.lexer import Token, tokenize
from varve.templates.nodes import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Nil,
    Number,
    Operand,
    Pipe,
    String,
    Variable,
)

MAX_NESTING: Final = 80
"""The most parentheses and control structures inside each other: code may recurse over a tree."""

KEYWORDS: Final = frozenset(
    [
        "block",
        "break",
        "continue",
        "define",
        "else",
        "end",
        "if",
        "range",
        "nil",
        "template",
        "with",
    ]
)
_NOT_EXECUTABLE = (Bool, Dot, Nil, Number, String)


class PipelineParser:
    """Tokens of a text and the place in them, and which functions and variables are known."""

    def __init__(
        self, text: str, name: str, functions: Collection[str], variables: Iterable[str]
    ) -> None:
        self._text = text
        self._name = name
        self._functions = functions
        self._tokens = tokenize(text, name)
        self._next = 0
        self._variables = ["$", *variables]
        self._nesting = 0

    def _error(self, message: str, token: Token) -> TemplateError:
        return self._error_at(message, token.at)

    def _error_at(self, message: str, at: int) -> TemplateError:
        return TemplateError(message, self._name, self._text, at)

    def _unexpected(self, token: Token, where: str) -> TemplateError:
        return self._error(f"unexpected {token} in {where}", token)

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        if token.kind != lexer.END:
            self._next += 1
        return token

    def _skip_spaces(self) -> None:
        while self._peek().kind == lexer.SPACE:
            self._next += 1

    def _take_solid(self) -> Token:
        self._skip_spaces()
        return self._take()

    def _enter(self, token: Token) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} levels inside each other", token)

    def _pipe(self, where: str, end: str) -> Pipe:
        self._skip_spaces()
        at = self._peek().at
        variables, is_assignment = self._declaration(where)
        commands: list[Command] = []
        while True:
            self._skip_spaces()
            token = self._peek()
            if end in (token.kind, token.text):
                self._next += 1
                break
            if token.kind == lexer.SYMBOL and token.text == "|" and commands:
                self._next += 1
                self._skip_spaces()
                if self._peek().kind == end or self._peek().text in (end, "|"):
                    raise self._error("missing value after |", self._peek())
            elif commands:
                raise self._unexpected(token, where)
            commands.append(self._command(where))
        if not commands:
            raise self._error_at(f"missing value for {where}", at)
        for command in commands[1:]:
            if isinstance(command.args[0], _NOT_EXECUTABLE):
                raise self._error_at("non executable command in pipeline", command.at)
        if not is_assignment:
            self._variables += variables
        return Pipe(tuple(commands), variables, is_assignment, at)

    def _declaration(self, where: str) -> tuple[tuple[str, ...], bool]:
        """Variables and `:=` or `=`, if the pipeline begins with them."""
        start = self._next
        names: list[str] = []
        while self._peek().kind == lexer.VARIABLE:
            names.append(self._take().text)
            self._skip_spaces()
            token = self._peek()
            if token.text == "," and where == "range" and len(names) == 1:
                self._next += 1
                self._skip_spaces()
                if self._peek().kind != lexer.VARIABLE:
                    raise self._error("range can only initialize variables", self._peek())
                continue
            if token.text in (":=", "="):
                self._next += 1
                if token.text == "=":
                    for name in names:
                        self._check_variable(name, token.at)
                return tuple(names), token.text == "="
            if token.text == ",":
                raise self._error(f"too many declarations in {where}", token)
            break
        self._next = start
        return (), False

    def _check_variable(self, name: str, at: int) -> None:
        if name not in self._variables:
            raise self._error_at(f'undefined variable "{name}"', at)

    def _command(self, where: str) -> Command:
        at = self._peek().at
        args: list[Operand] = []
        while True:
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            token = self._peek()
            if token.kind == lexer.SPACE:
                self._next += 1
                self._skip_spaces()
                token = self._peek()
                if operand is not None and not _ends_command(token):
                    continue
            if not _ends_command(token):
                raise self._unexpected(token, "operand" if operand is not None else where)
            break
        if not args:
            raise self._error(f"empty command: unexpected {self._peek()}", self._peek())
        return Command(tuple(args), at)

    def _operand(self) -> Operand | None:
        """A term and the fields behind it. Fields of a literal are an error."""
        node = self._term()
        if node is None or self._peek().kind != lexer.FIELD:
            return node
        at = self._peek().at
        names: list[str] = []
        while self._peek().kind == lexer.FIELD:
            names.append(self._take().text[1:])
        if isinstance(node, Field):
            return Field((*node.names, *names), node.at)
        if isinstance(node, Variable):
            return Variable(node.name, (*node.names, *names), node.at)
        if isinstance(node, (Bool, String, Number, Nil, Dot)):
            raise self._error_at(f"unexpected .{names[0]} after a term that has no fields", at)
        return Chain(node, tuple(names), at)

    def _term(self) -> Operand | None:
        token = self._peek()
        node: Operand | None = None
        if token.kind == lexer.NAME:
            node = self._word(token)
        elif token.kind == lexer.DOT:
            node = Dot(token.at)
        elif token.kind == lexer.FIELD:
            node = Field((token.text[1:],), token.at)
        elif token.kind == lexer.VARIABLE:
            self._check_variable(token.text, token.at)
            node = Variable(token.text, (), token.at)
        elif token.kind in (lexer.NUMBER, lexer.CHARACTER):
            node = self._number(token)
        elif token.kind in (lexer.STRING, lexer.RAW):
            node = self._string(token)
        elif token.text == "(":
            self._next += 1
            self._enter(token)
            node = self._pipe("parenthesized pipeline", ")")
            self._nesting -= 1
            return node
        if node is not None:
            self._next += 1
        return node

    def _word(self, token: Token) -> Operand:
        if token.text in ("true", "false"):
            return Bool(token.text == "true", token.at)
        if token.text == "nil":
            return Nil(token.at)
        if token.text in self._functions:
            return Identifier(token.text, token.at)
        if token.text in KEYWORDS:
            raise self._unexpected(token, "operand")
        raise self._error(f'function "{token.text}" not defined', token)

    def _number(self, token: Token) -> Number:
        try:
            if token.kind == lexer.CHARACTER:
                return Number(read_character(token.text), token.text, token.at)
            return Number(read_number(token.text), token.text, token.at)
        except ValueError as error:
            raise self._error(str(error), token) from None

    def _string(self, token: Token) -> String:
        if token.kind == lexer.RAW:
            return String(token.text[1:-1].replace("\r", ""), token.at)
        try:
            return String(read_string(token.text), token.at)
        except ValueError as error:
            raise self._error(str(error), token) from None


def _ends_command(token: Token) -> bool:
    return token.kind in (lexer.RIGHT, lexer.END) or (
        token.kind == lexer.SYMBOL and token.text in ("|", ")")
    )
