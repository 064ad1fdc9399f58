"""What can be wrong with rules, and where."""

from __future__ import annotations

from dataclasses import dataclass

from varve.model.errors import VarveError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file; line and column count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class RuleFileError(VarveError):
    """A file of rules or of rule tests cannot be used: all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(dict.fromkeys(problems), key=lambda one: (one.line, one.column))
        super().__init__("; ".join(map(str, self.problems)))


class RuleError(VarveError):
    """An evaluation of a rule failed; its alerts and series stay as they were."""
