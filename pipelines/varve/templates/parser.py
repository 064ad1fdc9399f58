"""Makes the tree of a template. Source: Go, text/template/parse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from varve.templates import lexer
from varve.templates.constants import read_character, read_number, read_string
from varve.templates.errors import TemplateError
from varve.templates.lexer import Token, tokenize
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
    Node,
    Number,
    Operand,
    Pipe,
    Range,
    String,
    Text,
    Variable,
    With,
)

MAX_NESTING: Final = 80
"""The most parentheses and control structures inside each other: code may recurse over a tree."""

_CONTROLS: Final[Mapping[str, type[If | With | Range]]] = {"if": If, "with": With, "range": Range}
_KEYWORDS: Final = frozenset(
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


def parse(
    text: str, name: str, *, functions: Collection[str], variables: Iterable[str] = ()
) -> dict[str, Definition]:
    """The templates that a text defines, its own body under `name`.

    functions: the names that may be called. variables: those set beforehand in the text's own body,
    with their `$`. Raises TemplateError.
    """
    return _Parser(text, name, functions, variables).templates()


class _Parser:
    def __init__(
        self, text: str, name: str, functions: Collection[str], variables: Iterable[str]
    ) -> None:
        self._text = text
        self._name = name
        self._functions = functions
        self._tokens = tokenize(text, name)
        self._next = 0
        self._variables = ["$", *variables]
        self._ranges = 0
        self._nesting = 0
        self._defined: dict[str, Definition] = {}

    def templates(self) -> dict[str, Definition]:
        body, end = self._block(in_definition=False)
        if end is not None:
            raise self._error(f"unexpected {{{{{end.text}}}}}", end)
        self._define(self._name, body, 0)
        return self._defined

    def _define(self, name: str, body: Block, at: int) -> None:
        definition = Definition(body, self._name, self._text)
        known = self._defined.get(name)
        if known is not None and not known.is_empty:
            if not definition.is_empty:
                raise self._error_at(f'multiple definition of template "{name}"', at)
            return
        self._defined[name] = definition

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

    # Blocks

    def _block(self, *, in_definition: bool = True) -> tuple[Block, Token | None]:
        """The nodes up to the `end` or `else` that belongs to them, or to the end of the text."""
        nodes: list[Node] = []
        while True:
            token = self._take()
            if token.kind == lexer.END:
                if in_definition:
                    raise self._error("unexpected end of text: an {{end}} is missing", token)
                return tuple(nodes), None
            if token.kind == lexer.TEXT:
                nodes.append(Text(token.text, token.at))
                continue
            self._skip_spaces()
            word = self._peek()
            keyword = word.text if word.kind == lexer.NAME else ""
            if keyword in ("end", "else"):
                self._next += 1
                return tuple(nodes), word
            if keyword == "define":
                if in_definition:
                    raise self._error("unexpected {{define}}: it stands inside something", word)
                self._next += 1
                self._definition()
            else:
                nodes.append(self._action(word, keyword))

    def _action(self, word: Token, keyword: str) -> Node:
        if keyword in _CONTROLS:
            self._next += 1
            return self._control(word)
        if keyword == "template":
            self._next += 1
            return self._call(word)
        if keyword == "block":
            self._next += 1
            return self._block_action(word)
        if keyword in ("break", "continue") and keyword not in self._functions:
            self._next += 1
            return self._jump(word)
        pipe = self._pipe("command", lexer.RIGHT)
        return Action(pipe, word.at)

    def _jump(self, word: Token) -> Node:
        token = self._take_solid()
        if token.kind != lexer.RIGHT:
            raise self._unexpected(token, f"{{{{{word.text}}}}}")
        if not self._ranges:
            raise self._error(f"{{{{{word.text}}}}} outside {{{{range}}}}", word)
        return Break(word.at) if word.text == "break" else Continue(word.at)

    def _control(self, word: Token) -> Node:
        self._enter(word)
        seen = len(self._variables)
        pipe = self._pipe(word.text, lexer.RIGHT)
        if word.text == "range":
            self._ranges += 1
        body, end = self._block()
        if word.text == "range":
            self._ranges -= 1
        otherwise: Block = ()
        if end is not None and end.text == "else":
            otherwise = self._otherwise(word)
        else:
            self._right("end")
        del self._variables[seen:]
        self._nesting -= 1
        return _CONTROLS[word.text](pipe, body, otherwise, word.at)

    def _otherwise(self, word: Token) -> Block:
        self._skip_spaces()
        token = self._peek()
        if token.kind == lexer.NAME and token.text == word.text and word.text in ("if", "with"):
            self._next += 1
            return (self._control(token),)
        self._right("else")
        block, end = self._block()
        if end is not None and end.text != "end":
            raise self._error("expected end; found {{else}}", end)
        self._right("end")
        return block

    def _right(self, where: str) -> None:
        token = self._take_solid()
        if token.kind != lexer.RIGHT:
            raise self._unexpected(token, where)

    def _template_name(self, where: str) -> str:
        token = self._take_solid()
        if token.kind not in (lexer.STRING, lexer.RAW):
            raise self._unexpected(token, where)
        return self._string(token).value

    def _definition(self) -> None:
        at = self._peek().at
        name = self._template_name("define clause")
        self._right("define clause")
        self._define(name, self._body("define clause"), at)

    def _body(self, where: str) -> Block:
        """The body of a definition, in which no variable or range of the text around is known."""
        outer = self._variables, self._ranges
        self._variables, self._ranges = ["$"], 0
        block, end = self._block()
        if end is not None and end.text != "end":
            raise self._unexpected(end, where)
        self._right("end")
        self._variables, self._ranges = outer
        return block

    def _block_action(self, word: Token) -> Node:
        self._enter(word)
        name = self._template_name("block clause")
        pipe = self._pipe("block clause", lexer.RIGHT)
        self._define(name, self._body("block clause"), word.at)
        self._nesting -= 1
        return Call(name, pipe, word.at)

    def _call(self, word: Token) -> Node:
        name = self._template_name("template clause")
        self._skip_spaces()
        if self._peek().kind == lexer.RIGHT:
            self._next += 1
            return Call(name, None, word.at)
        return Call(name, self._pipe("template clause", lexer.RIGHT), word.at)

    # Pipelines

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
        if token.text in _KEYWORDS:
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
