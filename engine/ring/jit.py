"""How every kernel of this package is compiled: cached, without the GIL, in a private directory.

Numba's cache index is unpickled when it is read, so its directory must be ours alone (mode 0700);
and a cached kernel keeps calling the *old* version of a function that changed in another file, so the
directory is named by a digest of all kernel sources. Both, and the width of the vectors, are decided before numba is imported.
"""

import os
from collections.abc import Callable
from hashlib import blake2b
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import llvmlite.binding as llvmlite  # type: ignore[import-untyped]
import numpy as np
import platformdirs
from llvmlite import ir
from numpy.typing import NDArray


def _private_cache() -> Path:
    """Make (mode 0700) and return the cache directory that belongs to exactly these sources."""
    digest = blake2b(digest_size=12)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    root = Path(platformdirs.user_cache_dir("trine")) / "numba"
    directory = root / digest.hexdigest()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (root, directory):
        path.chmod(0o700)
    return directory


def _widest_vectors() -> str:
    """This processor's features, without LLVM's preference for half of a 512-bit register.

    Meant for code that is vector code now and then; kernels are nothing else. Measured on one core with the 512-bit registers:
    matrix products 8.2 to 11.7 GMAC/s, inner products of one-hot bits 3.2 to 4.1 G cells/s. Elsewhere it changes nothing.
    """
    host = llvmlite.get_host_cpu_features()
    if host.get("avx512f"):
        host["prefer-256-bit"] = False
    return str(host.flatten())


os.environ["NUMBA_CACHE_DIR"] = str(_private_cache())
os.environ.setdefault("NUMBA_CPU_FEATURES", _widest_vectors())

import numba  # noqa: E402  its settings must stand before this import

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=np.generic)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first call: ``nogil``, cached on disk, unchecked indices."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function)
    return compiled


def only_read(array: NDArray[T]) -> NDArray[T]:
    """An array as a kernel takes it that only reads it. Mapped matrices may not be written to: so that kernels are compiled
    once, none may.
    """
    array = array.view()
    array.flags.writeable = False
    return array


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A part of kernels that is put into each of them where it is called, so that LLVM sees what its arguments are there."""
    compiled: Callable[P, R] = numba.njit(inline="always")(function)
    return compiled


def instruction(emit: Callable[..., None]) -> Callable[..., None]:
    """A part of kernels: what ``emit(builder, *addresses)`` writes. For each address it is called with a C-contiguous array and
    the number of a byte in it; nothing checks that the byte lies within.
    """
    addresses = len(signature(emit).parameters) - 1

    def typed(_context: object, *operands: Any) -> tuple[Any, Callable[..., Any]]:
        if any(array.layout != "C" for array in operands[::2]):
            raise TypeError(f"{emit.__name__} reads memory as it lies there: arrays must be C-contiguous")

        def generate(context: Any, builder: ir.IRBuilder, call: Any, arguments: Any) -> ir.Value:
            places = []
            for array, data, byte in zip(call.args[::2], arguments[::2], arguments[1::2], strict=True):
                start = builder.ptrtoint(context.make_array(array)(context, builder, data).data, ir.IntType(64))
                places.append(builder.inttoptr(builder.add(start, byte), ir.IntType(8).as_pointer()))
            emit(builder, *places)
            return context.get_dummy_value()

        return numba.types.void(*(kind for array in operands[::2] for kind in (array, numba.types.int64))), generate

    names = ("context", *(f"{kind}{i}" for i in range(addresses) for kind in ("array", "byte")))
    typed.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names])  # type: ignore[attr-defined]
    part: Callable[..., None] = numba.extending.intrinsic(typed)
    return part
