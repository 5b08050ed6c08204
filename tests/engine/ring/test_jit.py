"""Kernels are cached in a directory of ours alone, named by their sources."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path

from engine.ring import jit


def test_the_cache_is_private_and_named_by_a_digest_of_all_kernels() -> None:
    directory = Path(os.environ["NUMBA_CACHE_DIR"])
    sources = sorted(Path(jit.__file__).parent.glob("*.py"))
    assert directory.name == blake2b(b"".join(s.read_bytes() for s in sources), digest_size=12).hexdigest()
    for path in (directory, directory.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert path.stat().st_uid == os.getuid()
