"""How every kernel of this package is compiled: cached, without the GIL, in a private directory.

Numba's cache index is unpickled when it is read, so its directory must be ours alone (mode 0700);
and a cached kernel keeps calling the *old* version of a function that changed in another file, so the
directory is named by a digest of all kernel sources. Both, and the width of the vectors, are decided before numba is imported,
which is told nothing by anybody else: a setting of the environment, or a file in the current directory, would at best have all
kernels compiled once more.
"""

import os
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import llvmlite.binding as llvmlite  # type: ignore[import-untyped]
import numpy as np
import platformdirs
from llvmlite import ir
from numpy.typing import NDArray

from engine.errors import InputError, OutputError

RING = Path(__file__).resolve().parent.parent
"""The room of the arithmetic: the kernels, and the constants that are compiled into them."""


def digest_of(room: Path) -> str:
    """The digest of every source in a room, at any depth: one that is changed, moved or renamed gives another."""
    digest = blake2b(digest_size=12)
    for source in sorted(room.rglob("*.py")):
        for part in (source.relative_to(room).as_posix().encode(), source.read_bytes()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def cache_directory() -> Path:
    """Make (mode 0700) and return the cache directory that belongs to exactly these sources.

    Raises:
        OutputError: it cannot be made here, or belongs to somebody else.
    """
    ours = Path(platformdirs.user_cache_dir("trine"))
    directory = ours / "numba" / digest_of(RING)
    try:
        ours.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(ours)  # who owns it could exchange what lies in it
        for path in (directory.parent, directory):
            make_private(path)
    except OSError as error:
        what = f"the cache of compiled kernels cannot be made: {error.strerror or error}"
        raise OutputError(f"{what}; name another place with XDG_CACHE_HOME", error.filename or directory) from error
    return directory


def make_private(path: Path) -> None:
    """Make a directory that is ours alone: what is none, or was open to others who could have written to it, is taken away."""
    with suppress(FileNotFoundError):
        if not path.is_dir():
            path.unlink()
        elif _require_own(path) & (stat.S_IWGRP | stat.S_IWOTH):
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    path.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(_require_own(path)) != 0o700:
        path.chmod(0o700)


def _require_own(path: Path) -> int:
    """A directory's mode; OutputError if it belongs to another user."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        what = "this cache belongs to another user, and what is loaded from it is run"
        raise OutputError(f"{what}: take it away, or name another place with XDG_CACHE_HOME", path)
    return found.st_mode


def _forget_settings() -> None:
    """Of numba's in the environment none is kept, nor of OpenMP's, which it looks for: we use neither's threads.

    Raises:
        InputError: one of them switches the compiler off.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise InputError("NUMBA_DISABLE_JIT switches off the compiler that Trine computes with: unset it")
    for name in [name for name in os.environ if name.startswith(("NUMBA_", "OMP_", "GOMP_", "KMP_"))]:
        del os.environ[name]


def _widest_vectors() -> str:
    """This processor's features, without LLVM's preference for half of a 512-bit register.

    Meant for code that is vector code now and then; kernels are nothing else. Measured on one core with the 512-bit registers:
    matrix products 8.2 to 11.7 GMAC/s, inner products of one-hot bits 3.2 to 4.1 G cells/s. Elsewhere it changes nothing.
    """
    host = llvmlite.get_host_cpu_features()
    if host.get("avx512f"):
        host["prefer-256-bit"] = False
    return str(host.flatten())


@contextmanager
def _no_settings_file() -> Iterator[None]:
    """Numba reads none from the current directory, which may be anyone's: it cannot where it finds no YAML, and warns."""
    missing = object()
    yaml = sys.modules.get("yaml", missing)
    sys.modules["yaml"] = None  # type: ignore[assignment]  # so says the import system that there is no such module
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        if yaml is missing:
            del sys.modules["yaml"]
        else:
            sys.modules["yaml"] = yaml  # type: ignore[assignment]  # a module, as it was


_forget_settings()
os.environ["NUMBA_CACHE_DIR"] = str(cache_directory())
os.environ["NUMBA_CPU_FEATURES"] = _widest_vectors()

with _no_settings_file():
    import numba  # its settings must stand before this import

numba.core.config._config_fname = ""  # which it looks for whenever it compiles

from engine.ring.kernels import kernel_cache  # noqa: E402  it imports numba

_Cache = kernel_cache.in_directory(Path(os.environ["NUMBA_CACHE_DIR"]))

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=np.generic)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first call: ``nogil``, cached on disk, unchecked indices."""
    compiled: Callable[P, R] = dispatcher(function, _Cache)
    return compiled


def dispatcher(function: Callable[..., Any], cache: Callable[[Callable[..., Any]], Any]) -> Any:
    """Numba's dispatcher of `function`: ``nogil``, unchecked indices, and what it compiles is kept by what `cache` makes."""
    made: Any = numba.njit(nogil=True, boundscheck=False, error_model="numpy")(function)
    made._cache = cache(function)  # as `cache=True` sets numba's own
    return made


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
