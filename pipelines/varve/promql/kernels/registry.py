"""Which kernels exist, and how they are compiled."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

F = TypeVar("F", bound=Callable[..., Any])

_MODULES = (
    "varve.promql.kernels.windows",
    "varve.promql.kernels.aggregate",
    "varve.promql.kernels.buckets",
    "varve.promql.kernels.json",
)

_CONST = re.compile(r"const (\w+)\[::1\]")

_registry: list[tuple[Any, str]] = []
_warm: set[Any] = set()


class _Cache(FunctionCache):
    """Compiled code on disk, for as long as no source that it may be made from changes.

    Numba looks at a kernel's own file alone, and would keep what is inlined from another.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = _fingerprint(function.__code__.co_filename)
        self._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            self._cache_path, self._impl.filename_base, stamp
        )


@lru_cache
def _fingerprint(file: str) -> str:
    """Of all sources of this package and of `file`."""
    sources = sorted({*Path(__file__).parent.glob("*.py"), Path(file)})
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def kernel(signature: str) -> Callable[[F], F]:
    """Compile a function for `signature`, at `warm_up` or when first called.

    The compiled code holds no interpreter lock and is cached on disk, beside the module or,
    where that is not writable, in the user's cache directory (NUMBA_CACHE_DIR overrides both).
    Division by zero gives Inf or NaN, as IEEE 754 has it. `const float64[::1]` in a signature is
    an array that may be read-only.
    """
    signature = _CONST.sub(r"Array(\1, 1, 'C', readonly=True)", signature)

    def decorate(function: F) -> F:
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
        dispatcher._cache = _Cache(function)  # noqa: SLF001 - as its enable_caching() does
        _registry.append((dispatcher, signature))
        return cast(F, dispatcher)

    return decorate


def inline(function: F) -> F:
    """A helper compiled into the kernels that call it."""
    return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


def warm_up() -> int:
    """Load or compile every kernel; returns how many there are.

    Takes under a second from a warm cache, a minute or so when it has to compile. From then on
    a kernel that is called with other types than its signature's raises TypeError.
    """
    for module in _MODULES:
        importlib.import_module(module)
    for dispatcher, signature in _registry:
        if dispatcher not in _warm:
            dispatcher.compile(signature)
            dispatcher.disable_compile()
            _warm.add(dispatcher)
    return len(_registry)
