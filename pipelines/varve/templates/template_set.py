"""Named templates, and what they give for some data: what the rules and the notifier use.

library = TemplateSet().with_text(text_of_a_file, "mail.tmpl", NOTIFICATION_NAMES)
subject = library.with_text("{{ .Status }}", "subject", NOTIFICATION_NAMES)
subject.expand("subject", data, notification_functions(now_ms))
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from varve.templates.budget import Budget, Limits
from varve.templates.builtins import BUILTINS
from varve.templates.errors import FunctionError, TemplateError
from varve.templates.evaluator import Evaluator
from varve.templates.go_format import to_text
from varve.templates.html.functions import HTML_BUILTINS
from varve.templates.html.output import HtmlOutput
from varve.templates.nodes import Definition
from varve.templates.parser import parse
from varve.templates.values import Function

_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """Templates by name, which may call each other. It never changes, and threads may share it."""

    definitions: Mapping[str, Definition] = field(default_factory=dict)

    def with_text(
        self,
        text: str,
        name: str,
        functions: Collection[str],
        variables: Collection[str] = (),
    ) -> TemplateSet:
        """This set with a text, under `name`, and what it defines.

        What is defined anew replaces what there was, unless it is empty. functions: names that the
        text may use beside Go's own. variables: those that `expand` will set, with their `$`.
        Raises TemplateError if the text does not parse.
        """
        known = {*functions, *BUILTINS}
        found = parse(text, name, functions=known, variables=variables)
        kept = {n: d for n, d in found.items() if n not in self.definitions or not d.is_empty}
        return TemplateSet({**self.definitions, **kept})

    def expand(
        self,
        name: str,
        data: Any,
        functions: Mapping[str, Function],
        *,
        variables: Mapping[str, Any] | None = None,
        html: bool = False,
        limits: Limits = _DEFAULT_LIMITS,
    ) -> str:
        """What the template `name` gives for `data`. Raises TemplateError.

        html: values are escaped for where in an HTML document they stand.
        """
        budget = Budget(limits)
        output = HtmlOutput(budget) if html else _TextOutput(budget)
        builtins = HTML_BUILTINS if html else BUILTINS
        evaluator = Evaluator(self.definitions, {**builtins, **functions}, output, budget)
        evaluator.expand(name, data, variables or {})
        try:
            return output.finished()
        except FunctionError as error:
            whole = self.definitions[name]
            raise TemplateError(str(error), whole.source, whole.text, len(whole.text)) from None


class _TextOutput:
    """Values as they are."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._parts: list[str] = []

    def text(self, text: str) -> None:
        self._budget.made(len(text))
        self._parts.append(text)

    def value(self, value: Any) -> None:
        self.text(to_text(value, self._budget))

    def finished(self) -> str:
        return "".join(self._parts)
