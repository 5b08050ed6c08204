"""Whether a node has room to store the halves of its products."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.host.memory import NODES_A_HOST, RESERVE, available_memory, has_room

GIGA = 1 << 30


def test_the_pack_once_both_parties_halves_and_the_reserve_must_fit() -> None:
    needed = 8 * GIGA + NODES_A_HOST * 7 * GIGA + RESERVE
    assert has_room(8 * GIGA, 7 * GIGA, needed)
    assert not has_room(8 * GIGA, 7 * GIGA, needed - 1)


def test_the_whole_tinyllama_is_drawn_in_24_gigabytes_and_the_demo_model_stored_in_8() -> None:
    tinyllama, table = 8 * 1_100_000_000, 8 * 32_000 * 2048
    assert not has_room(tinyllama, tinyllama - table, 24 * GIGA)
    demo, table = 8 * 163_000_000, 8 * 49_152 * 576
    assert has_room(demo, demo - table, 8 * GIGA)


def test_halves_are_stored_where_nothing_is_known() -> None:
    assert has_room(GIGA, GIGA, None)


def test_linux_says_what_is_available(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       24000000 kB\nMemAvailable:   12345678 kB\n")
    assert available_memory(tmp_path / "meminfo") == 12345678 * 1024


@pytest.mark.parametrize("text", [None, "MemTotal: 24000000 kB\n"])
def test_elsewhere_it_is_half_of_the_memory(tmp_path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}[name])
    assert available_memory(tmp_path / "meminfo") == 2_048_000


def test_a_system_that_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sysconf")
    assert available_memory(tmp_path / "meminfo") is None
