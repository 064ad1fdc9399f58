"""Describes a function or an aggregation: its types, its traits, what a tier answers.

The entries themselves are in function_table.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

UNLIMITED: Final = -1
"""A `variadic` without a bound."""


class ValueType(enum.StrEnum):
    """The type of an expression's value, by Prometheus' short name for it."""

    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "vector"
    MATRIX = "matrix"

    @property
    def documented(self) -> str:
        """The name that Prometheus' manual and its error messages use."""
        return {"vector": "instant vector", "matrix": "range vector"}.get(self.value, self.value)


class Family(enum.StrEnum):
    """What a function works on; the documentation lists functions by it."""

    VALUES = "Values"
    TIMES = "Times"
    WINDOWS = "Range vectors"
    HISTOGRAMS = "Histograms"
    SERIES = "Labels, order and presence"
    SCALARS = "Scalars"


class Trait(enum.Flag):
    """How a function is evaluated, beside what its types say."""

    NONE = 0
    EXPERIMENTAL = enum.auto()
    """Prometheus has it behind a feature flag."""
    STEP_DEPENDENT = enum.auto()
    """The result depends on the step even if no argument does."""
    KEEPS_NAME = enum.auto()
    """The result is a sample of the series, which keeps its name."""
    EXPECTS_COUNTER = enum.auto()
    """An info tells of metrics that do not look like counters."""
    USES_START_TIMES = enum.auto()
    """Start timestamps tell it of counter resets."""
    FLOATS_ONLY = enum.auto()
    """Native histograms in a window, or in a group, are left out, and an info says so."""
    ANCHORED = enum.auto()
    """It may be used with the modifier `anchored`."""
    SMOOTHED = enum.auto()
    """It may be used with the modifier `smoothed`."""


class Accuracy(enum.Enum):
    """How an answer from rollup rows compares with the answer from the samples."""

    EXACT = "exact"
    ROUNDED = "exact up to rounding, 1e-12"
    SKETCHED = "each order statistic within 1.083 %"
    RAW_ONLY = "raw samples only"
    AS_ARGUMENTS = "as its arguments"


@dataclass(frozen=True, slots=True)
class TierAnswer:
    """What a tier answers. `columns` are those of a rollup row that the answer is made from."""

    accuracy: Accuracy
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its signature, what it gives, and how it is evaluated.

    variadic: 0 means exactly `args`. With n > 0 the last of `args` may be left out or be given up
    to n times, with UNLIMITED any number of times. help: one sentence. kernel: its number in
    kernels.codes; None unless an argument is a range vector.
    """

    name: str
    family: Family
    args: tuple[ValueType, ...]
    returns: ValueType
    help: str
    tier: TierAnswer
    variadic: int = 0
    traits: Trait = Trait.NONE
    kernel: int | None = None

    @property
    def least_args(self) -> int:
        return len(self.args) - (self.variadic != 0)

    @property
    def most_args(self) -> int | None:
        """How many arguments there may be; None means that there is no limit."""
        if self.variadic == UNLIMITED:
            return None
        return self.least_args + self.variadic if self.variadic else len(self.args)

    def has(self, trait: Trait) -> bool:
        return trait in self.traits


@dataclass(frozen=True, slots=True)
class Aggregation:
    """An aggregation operator.

    parameter: type of the argument before the vector, None if it has none. kernel: its number in
    kernels.codes if the value of a group is accumulated series by series, else None.
    """

    name: str
    help: str
    parameter: ValueType | None = None
    kernel: int | None = None
    traits: Trait = Trait.NONE

    def has(self, trait: Trait) -> bool:
        return trait in self.traits
