"""Reading ahead past the caches: a matrix is read once a token, and must not push everything else out of them.

x86's ``prefetchnta``: the line goes into the nearest cache only and leaves it without a trace. Streamed as usual, a layer's
25 MB take the place of the interpreter and of all that the next gates read. Measured on a Zen 3 core, at `AHEAD` bytes: the
stream 13.8 → 18 GB/s, a gate's few calls behind it 14 → 10 µs. A hint: it changes no word, and no address can be wrong.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numpy.typing import NDArray

import engine.ring.jit  # noqa: F401  numba's settings must stand before its import

from numba import types  # isort: skip
from numba.core import cgutils  # isort: skip
from numba.extending import intrinsic  # isort: skip

AHEAD = 2048  #: between what is read and what is asked for: bytes of 8-byte words, words of `Low40`
LINE = 64  #: bytes of a cache line

_READ, _ONCE, _DATA = 0, 0, 1


def _hint(typing: Any, array: Any, offset: Any) -> Any:  # noqa: ANN401, ARG001  numba's types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.inttoptr(builder.add(builder.ptrtoint(data, ir.IntType(64)), arguments[1]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        builder.call(hint, [address, *(number(value) for value in (_READ, _ONCE, _DATA))])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


read_once = cast(Callable[[NDArray[Any], int | np.int64], None], intrinsic(_hint))
"""For kernels: ask for the cache line at a byte of an array's memory, which will be read once."""
