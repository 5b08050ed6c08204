"""How every kernel of this package is compiled: cached, without the GIL, in a private directory.

Numba's cache index is unpickled when it is read, so its directory must be ours alone (mode 0700);
and a cached kernel keeps calling the *old* version of a function that changed in another file, so the
directory is named by a digest of all kernel sources. Both are decided before numba is imported.
"""

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import ParamSpec, TypeVar

import platformdirs


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


os.environ["NUMBA_CACHE_DIR"] = str(_private_cache())

import numba  # noqa: E402  the cache directory must be set before this import

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first call: ``nogil``, cached on disk, unchecked indices."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function)
    return compiled
