"""Memory by its address, inside kernels: what of many arrays is wanted is copied in one call, and
asked for from main memory before its turn comes.

Nothing here looks at bounds or keeps an array alive: whoever passes an address does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils as untyped
from numba.core import types
from numba.extending import intrinsic

from varve.model.compiled import inline

# Numba's are without types.
_cgutils: Any = untyped
_intrinsic: Any = intrinsic
_WORD = 8
_LINE_WORDS = 8

_Generated = tuple[Any, Callable[..., Any]]


def _copy_words(_: Any, _to: Any, _source: Any, _count: Any) -> _Generated:

    def generate(context: Any, builder: Any, __: Any, args: Any) -> Any:
        target, begin, words = args
        _cgutils.raw_memcpy(builder, _pointer(builder, target), _pointer(builder, begin), words, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _prefetch(_: Any, _address: Any) -> _Generated:

    def generate(context: Any, builder: Any, __: Any, args: Any) -> Any:
        flag = ir.IntType(32)
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = _cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        to_read, near, data = ir.Constant(flag, 0), ir.Constant(flag, 3), ir.Constant(flag, 1)
        pointer = builder.inttoptr(args[0], byte)
        builder.call(function, [pointer, to_read, near, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


copy_words: Callable[[Any, Any, Any], None] = _intrinsic(_copy_words)
"""copy_words(to, source, count) copies words of 8 bytes from one address to another; the two do not
overlap."""

_ask_for: Callable[[Any], None] = _intrinsic(_prefetch)


@inline
def ask_for_words(address: int, begin: int, end: int) -> None:
    """Has words begin:end after an address read into the cache, without waiting for them."""
    for k in range(begin, end, _LINE_WORDS):
        _ask_for(address + _WORD * k)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())
