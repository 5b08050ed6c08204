"""A damaged cache is compiled anew, and what is unpickled is ours alone. In whole programs: tests/app/test_surroundings.py."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import OutputError
from engine.ring.kernels import jit, kernel_cache


def tripled(x: int) -> int:
    return 3 * x


def doubled(x: int) -> int:
    return 2 * x


def run(directory: Path, function: Callable[[int], int] = tripled) -> bool:
    """Call a kernel as another process would; whether it was read from the cache."""
    dispatcher = jit.dispatcher(function, kernel_cache.in_directory(directory))
    assert dispatcher(14) == function(14)
    hits: int = dispatcher.stats.cache_hits[(jit.numba.int64,)]
    return hits == 1


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    assert not run(tmp_path)
    assert run(tmp_path)
    return tmp_path


def index(directory: Path) -> Path:
    return next(directory.glob("*tripled*.nbi"))


def data(directory: Path) -> Path:
    return next(directory.glob("*tripled*.nbc"))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_by_a_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zeroed_at_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))


def changed_in_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def filled_with_noise(path: Path) -> None:
    path.write_bytes(os.urandom(4096))


def written_by_numba_itself(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-32])


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def taken_away(path: Path) -> None:
    path.unlink()


DAMAGES = [
    emptied,
    cut_in_half,
    cut_by_a_byte,
    zeroed_at_the_end,
    changed_in_one_bit,
    filled_with_noise,
    written_by_numba_itself,
    made_a_directory,
    taken_away,
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [index, data])
def test_a_damaged_file_is_made_anew(filled: Path, which: Callable[[Path], Path], damage: Callable[[Path], None]) -> None:
    damage(which(filled))
    assert not run(filled)
    if damage is not made_a_directory:  # where none can be written: it is done without
        assert run(filled)


def whole(path: Path, content: bytes) -> None:
    path.write_bytes(kernel_cache.sealed(str(path), content))


def test_another_kernels_file_under_this_ones_name_is_damage(filled: Path) -> None:
    run(filled, doubled)
    for own in (index(filled), data(filled)):
        other = next(filled.glob(f"*doubled*{own.suffix}"))
        own.write_bytes(other.read_bytes())
        assert not run(filled)
        assert run(filled)


def test_what_another_version_wrote_whole_is_made_anew(filled: Path) -> None:
    pickled = b"\x8c\x05other\x94."  # a version's name, as numba's index begins
    for content in (pickled, b"cnowhere\nnothing\n.", b"no pickle"):
        whole(index(filled), b"\x80\x04" + content)
        assert not run(filled)
        whole(data(filled), b"\x80\x04" + content)
        assert not run(filled)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path / "file" / "below"):
        (tmp_path / "file").touch()
        assert not run(place)
        assert not run(place)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_is_made_private(tmp_path: Path) -> None:
    place = tmp_path / "numba"
    jit.make_private(place)
    assert mode(place) == 0o700
    for wrong in (0o755, 0o500, 0o750):  # nobody else could write: what is there stays
        (place / "kept").touch()
        place.chmod(wrong)
        jit.make_private(place)
        assert mode(place) == 0o700
        assert (place / "kept").exists()


@pytest.mark.parametrize("wrong", [0o777, 0o770, 0o702, 0o1777])
def test_what_others_could_have_written_is_taken_away(tmp_path: Path, wrong: int) -> None:
    place = tmp_path / "numba"
    (place / "below").mkdir(parents=True)
    (place / "below" / "planted.nbi").touch()
    place.chmod(wrong)
    jit.make_private(place)
    assert mode(place) == 0o700
    assert not list(place.iterdir())


def test_what_is_no_directory_is_taken_away(tmp_path: Path) -> None:
    place = tmp_path / "numba"
    for make in (place.touch, lambda: place.symlink_to(tmp_path / "nowhere"), lambda: os.mkfifo(place)):
        make()
        jit.make_private(place)
        assert mode(place) == 0o700
        place.rmdir()


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jit.cache_directory()
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(OutputError, match="belongs to another user"):
        jit.cache_directory()
    with pytest.raises(OutputError, match="belongs to another user"):
        jit.make_private(tmp_path / "trine" / "numba")


def test_a_place_where_none_can_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"file.*cannot be made: .*name another place with XDG_CACHE_HOME"):
        jit.cache_directory()
