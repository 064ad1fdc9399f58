"""Makes the tree of a template. Source: Go, text/template/parse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from varve.templates import lexer
from varve.templates.lexer import Token
from varve.templates.nodes import (
    Action,
    Block,
    Break,
    Call,
    Continue,
    Definition,
    If,
    Node,
    Range,
    Text,
    With,
)
from varve.templates.pipeline_parser import PipelineParser

_CONTROLS: Final[Mapping[str, type[If | With | Range]]] = {"if": If, "with": With, "range": Range}


def parse(
    text: str, name: str, *, functions: Collection[str], variables: Iterable[str] = ()
) -> dict[str, Definition]:
    """The templates that a text defines, its own body under `name`.

    functions: the names that may be called. variables: those set beforehand in the text's own body,
    with their `$`. Raises TemplateError.
    """
    return _Parser(text, name, functions, variables).templates()


class _Parser(PipelineParser):
    """Reads blocks; its base reads what stands between braces."""

    def __init__(
        self, text: str, name: str, functions: Collection[str], variables: Iterable[str]
    ) -> None:
        super().__init__(text, name, functions, variables)
        self._ranges = 0
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
