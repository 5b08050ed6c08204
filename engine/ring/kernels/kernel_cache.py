"""Compiled kernels on disk: a damaged file is as good as none, and one that cannot be written is done without.

Numba unpickles its index and hands what lies beside it to LLVM, which ends the process where it is broken (power was lost, a
disk was full). So each file ends with a digest of its name and contents, and numba opens it only where that fits. The digest
finds accidents; that nobody else writes here is the directory's part (engine/ring/kernels/jit.py, which alone imports this).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

from numba.core import caching

_SEAL_BYTES = 32


def sealed(path: str, content: bytes) -> bytes:
    """What a file of that name holds: its contents, and behind them the digest of both."""
    return content + _digest(path, content)


def _digest(path: str, content: bytes) -> bytes:
    return blake2b(os.path.basename(path).encode() + b"\0" + content, digest_size=_SEAL_BYTES).digest()


def is_whole(path: str) -> bool:
    """Whether a file is there as it was written. Numba reads what comes before the digest, and stops there by itself."""
    try:
        content = Path(path).read_bytes()
    except OSError:  # not there, a directory, not ours to read
        return False
    return content[-_SEAL_BYTES:] == _digest(path, content[:-_SEAL_BYTES])


class _Files(caching.IndexDataCacheFile):
    """The files of one kernel."""

    def _load_index(self) -> dict[Any, str]:
        if not is_whole(self._index_path):
            return {}
        try:
            overloads: dict[Any, str] = super()._load_index()
        except Exception:  # whatever unpickling raises where a library's other version wrote the file: it is written anew
            return {}
        return overloads

    def _load_data(self, name: str) -> object:
        if not is_whole(self._data_path(name)):
            raise FileNotFoundError(name)  # which numba takes for a file that was removed
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BytesIO]:
        with super()._open_for_write(filepath) as file:
            written = BytesIO()
            yield written
            file.write(sealed(filepath, written.getvalue()))


def in_directory(directory: Path) -> Callable[[Callable[..., Any]], Any]:
    """What gives a kernel its cache in that directory, which is there and private."""

    class KernelPlace(caching.UserProvidedCacheLocator):
        def get_cache_path(self) -> str:
            return str(directory)

        def ensure_cache_path(self) -> None:
            """It is not asked whether it can be written: where all kernels are there already, that need not be."""

    class KernelCode(caching.CompileResultCacheImpl):
        _locator_classes = [KernelPlace]

    class KernelCache(caching.FunctionCache):
        _impl_class = KernelCode

        def __init__(self, function: Callable[..., Any]) -> None:
            super().__init__(function)
            self._cache_file = _Files(str(directory), self._impl.filename_base, self._impl.locator.get_source_stamp())

        def _index_key(self, sig: object, codegen: object) -> tuple[object, ...]:
            # Not the bytecode, which `python -O` changes: the directory's name says which sources these are.
            signature, machine, (_, closure) = super()._index_key(sig, codegen)
            return signature, machine, closure

        def load_overload(self, sig: object, target_context: object) -> object:
            try:
                return super().load_overload(sig, target_context)
            except Exception:  # likewise: the kernel is compiled anew
                return None

        def save_overload(self, sig: object, data: object) -> None:
            with suppress(OSError):  # the disk is full, or not ours to write
                super().save_overload(sig, data)

    return KernelCache
