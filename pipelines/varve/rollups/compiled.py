"""How the kernels are compiled: on first use, and kept on disk where the disk lets us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function`, compiled without the interpreter lock.

    The machine code is kept beside the source, else in the user's cache folder (numba's
    NUMBA_CACHE_DIR goes before both). Where neither can be written, as in a container with a
    read-only image, each process compiles for itself.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError as err:
        if "cannot cache" not in str(err):
            raise
        return cast(F, numba.njit(nogil=True)(function))
