"""Kernels are cached in a directory of ours alone, named by their sources."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from engine.ring.kernels import jit


def test_the_cache_is_private_and_named_by_a_digest_of_the_room() -> None:
    directory = Path(os.environ["NUMBA_CACHE_DIR"])
    assert directory.name == jit.digest_of(jit.RING)
    assert Path(jit.__file__).is_relative_to(jit.RING)
    for path in (directory, directory.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert path.stat().st_uid == os.getuid()


def test_a_source_that_is_changed_moved_or_renamed_names_another_cache(tmp_path: Path) -> None:
    names = set()
    for number, path in enumerate(sorted(jit.RING.rglob("*.py"))):
        for change in ("text", "name", "folder"):
            room = tmp_path / f"{number}{change}"
            shutil.copytree(jit.RING, room, ignore=shutil.ignore_patterns("__pycache__"))
            source = room / path.relative_to(jit.RING)
            if change == "text":
                source.write_text(source.read_text() + "\n")
            elif change == "name":
                source.rename(source.with_name(f"x{source.name}"))
            else:
                (source.parent / "deeper").mkdir()
                source.rename(source.parent / "deeper" / source.name)
            names.add(jit.digest_of(room))
            shutil.rmtree(room)
    assert jit.digest_of(jit.RING) not in names
    assert len(names) == 3 * (number + 1)
