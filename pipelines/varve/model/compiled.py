"""How numba kernels are compiled: for stated types, without the interpreter lock, kept on disk."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

F = TypeVar("F", bound=Callable[..., Any])

_ROOT = Path(__file__).parents[2]
_CONST = re.compile(r"const (\w+)(\[[:,1 ]+\])")

_registry: list[tuple[Any, str]] = []
_warm: set[Any] = set()


def kernel(signature: str) -> Callable[[F], F]:
    """Compiles a function for `signature` at `warm_up`; without it, when it is first called, for
    the types it is called with.

    The compiled code is kept beside the source or, where that cannot be written, in the user's
    cache folder (numba's NUMBA_CACHE_DIR goes before both); where neither can be, as in a container
    with a read-only image, each process compiles for itself. Division by zero gives Inf or NaN, as
    IEEE 754 has it. `const float64[::1]` in a signature is an array that may be read-only.
    """
    types = _CONST.sub(_read_only, signature)

    def decorate(function: F) -> F:
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
        try:
            dispatcher._cache = _Cache(function)  # noqa: SLF001 - as its enable_caching() does
        except RuntimeError as err:
            if "cannot cache" not in str(err):
                raise
        _registry.append((dispatcher, types))
        return cast(F, dispatcher)

    return decorate


def inline(function: F) -> F:
    """A helper compiled into the kernels that call it."""
    return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


def warm_up(*modules: str) -> int:
    """Loads or compiles every kernel of these modules, and of those imported already; returns how
    many there are.

    Takes under a second from a warm cache, a minute or so when it has to compile. From then on
    a kernel that is called with other types than its signature's raises TypeError.
    """
    for module in modules:
        importlib.import_module(module)
    for dispatcher, types in _registry:
        if dispatcher not in _warm:
            dispatcher.compile(types)
            dispatcher.disable_compile()
            _warm.add(dispatcher)
    return len(_registry)


class _Cache(FunctionCache):
    """Compiled code on disk, for as long as no source changes that it may be made from.

    Numba looks at a kernel's own file alone, and would keep what is inlined from another.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            self._cache_path,
            self._impl.filename_base,
            _fingerprint(Path(function.__code__.co_filename)),
        )


@lru_cache
def _fingerprint(file: Path) -> str:
    """A hash of a source and of all our sources that it imports, directly or not."""
    found: set[Path] = set()
    ahead = [file]
    while ahead:
        source = ahead.pop()
        if source not in found:
            found.add(source)
            ahead += _imported(source)
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(found):
        digest.update(source.read_bytes())
    return digest.hexdigest()


@lru_cache
def _imported(source: Path) -> list[Path]:
    """Our sources that one imports."""
    paths = [_ROOT.joinpath(*name.split(".")) for name in _names(ast.parse(source.read_bytes()))]
    return [file for path in paths if (file := path.with_suffix(".py")).is_file()]


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _read_only(match: re.Match[str]) -> str:
    kind, shape = match.groups()
    return f"Array({kind}, {shape.count(',') + 1}, 'C', readonly=True)"
