"""Which kernels exist, and how they are compiled."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_MODULES = (
    "varve.promql.kernels.windows",
    "varve.promql.kernels.aggregate",
    "varve.promql.kernels.buckets",
    "varve.promql.kernels.json",
)

_registry: list[tuple[Any, str]] = []


def kernel(signature: str) -> Callable[[F], F]:
    """Compile a function for `signature`, at `warm_up` or when first called.

    The compiled code holds no interpreter lock and is cached on disk, beside the module or,
    where that is not writable, in the user's cache directory (NUMBA_CACHE_DIR overrides both).
    Division by zero gives Inf or NaN, as IEEE 754 has it.
    """

    def decorate(function: F) -> F:
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
        _registry.append((dispatcher, signature))
        return cast(F, dispatcher)

    return decorate


def inline(function: F) -> F:
    """A helper compiled into the kernels that call it."""
    return cast(
        F, numba.njit(cache=True, nogil=True, error_model="numpy", inline="never")(function)
    )


def warm_up() -> int:
    """Load or compile every kernel; returns how many there are.

    Takes under a second from a warm cache, a minute or so when it has to compile.
    """
    for module in _MODULES:
        importlib.import_module(module)
    for dispatcher, signature in _registry:
        dispatcher.compile(signature)
    return len(_registry)
