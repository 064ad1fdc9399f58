"""What expanding a template may take.

Templates are written by users, and see labels that anyone may send. Every limit here ends the
expansion with an error, so that none of them takes a service's memory or time.
"""

from __future__ import annotations

from dataclasses import dataclass

from varve.templates.errors import FunctionError


@dataclass(frozen=True, slots=True)
class Limits:
    """steps: nodes evaluated, list elements and map entries handled. output: characters of the
    result, and of all strings that functions make on the way, together. depth: templates, control
    structures and values inside each other.
    """

    steps: int = 2_000_000
    output: int = 16_000_000
    depth: int = 100


class Budget:
    """What is left of some limits during one expansion."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._steps = limits.steps
        self._output = limits.output
        self.depth = 0

    def step(self, count: int = 1) -> None:
        """Takes `count` steps. Raises FunctionError if there are not so many left."""
        self._steps -= count
        if self._steps < 0:
            raise FunctionError(f"the template takes more than {self._limits.steps} steps")

    def made(self, characters: int) -> None:
        """Notes a string of this length. Raises FunctionError if it is too much."""
        self._output -= characters
        if self._output < 0:
            raise FunctionError(f"the template makes more than {self._limits.output} characters")

    def enter(self) -> None:
        """Goes a level deeper; leave() goes back. Raises FunctionError if that is too deep."""
        self.depth += 1
        if self.depth > self._limits.depth:
            raise FunctionError(f"more than {self._limits.depth} levels inside each other")

    def leave(self) -> None:
        self.depth -= 1
