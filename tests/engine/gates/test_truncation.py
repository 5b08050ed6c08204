"""Truncation: within one unit, unbiased, wrong by 2^(64 - s) with probability |z| / 2^64, and then always noticed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates.rotary import Rotary, rotate
from engine.gates.truncation import alarm_seed, as_wire, deal, rescale, truncate
from engine.parties.gate_trio import Input
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.ring.kernels.words import mix
from engine.rows.run import Extent, Rows
from engine.wire import Rho
from tests.engine.gates.alone import Ring, big, play, sizes, words, wrapped

seeds = st.integers(0, 2**32)
few = settings(max_examples=15)
EDGE = (1 << 62) - 1


def error_in_raw_units(out: Ring, z: Ring, shift: int) -> Ring:
    """out·2^shift - z, in Python's integers."""
    return big(out) * (1 << shift) - big(z)


@given(shift=st.integers(1, 40), rows=st.sampled_from((1, 2, 5)), n=st.sampled_from((1, 63, 64, 65, 130)), seed=seeds)
@few
def test_the_result_is_within_one_unit_and_no_alarm_is_raised(shift: int, rows: int, n: int, seed: int) -> None:
    z = sizes(np.random.default_rng(seed), rows, n, bits=40)  # a wrap has probability 2^-24 an element

    played = play(lambda p, x: truncate(p, x, 50, 50 - shift, "z"), Input(z), seed=seed)

    assert (abs(error_in_raw_units(played.out, z, shift)) < truncate.error.units * (1 << shift)).all()
    assert (played.rounds, played.alarm) == (0, 0)


def test_no_bits_are_taken_from_a_wire_by_a_shift_of_none() -> None:
    z = words(np.random.default_rng(0), 3, 9)
    np.testing.assert_array_equal(play(as_wire, Input(z)).out, z)


@pytest.mark.parametrize(("z", "shift"), [(1, 4), (-1, 4), (7, 4), (-1000, 10), (123456789, 20)])
def test_the_rounding_is_unbiased(z: int, shift: int) -> None:
    count = 40_000
    values = np.full((1, count), z, np.int64)

    out = play(lambda p, x: truncate(p, x, shift, 0, "z"), Input(values)).out

    whole, part = divmod(z, 1 << shift)
    assert set(np.unique(out)) <= {whole, whole + 1}
    chance = part / (1 << shift)
    assert abs((out == whole + 1).mean() - chance) < 5 * np.sqrt(chance * (1 - chance) / count)


def test_a_wrap_has_probability_z_in_2_64_is_wrong_by_2_to_the_64_less_s_and_is_always_noticed() -> None:
    rows, n, shift = 4, 16_000, 12
    z = np.full((rows, n), 1 << 58, np.int64) * np.array([[1], [-1], [1], [-1]])

    played = play(lambda p, x: truncate(p, x, shift, 0, "z"), Input(z), section=3)

    off = error_in_raw_units(played.out, z, shift)
    wraps = abs(off) >= 1 << shift
    assert {int(v) for v in off[wraps]} == {1 << 64, -(1 << 64)}
    assert abs(wraps.mean() - 2**-6) < 5 * np.sqrt(2**-6 / z.size)
    assert played.alarm == alarm_of(wraps, Rows(7, 0, rows), section=3, gate=1)
    assert played.alarm != 0


def alarm_of(wraps: Ring, rows: Rows, section: int, gate: int) -> int:
    """The alarm word of an array from the wraps themselves: each one's own public 16-bit mask, XORed."""
    word = 0
    for r, serial in enumerate(rows.serials):
        base = mix(np.int64(alarm_seed(section, gate)) ^ mix(serial))
        for j in np.flatnonzero(wraps[r]):
            word ^= int(mix(base + j)) & 0xFFFF
    return word


@pytest.mark.parametrize("z", [EDGE, -EDGE, 1 << 40, -(1 << 40), 1, -1])
def test_at_the_edge_of_the_ring_exactly_what_crosses_it_is_noticed(z: int) -> None:
    top = (1 << 63) - 1
    corners = [top, top - 1, -top - 1, -top, 0, -1, (1 << 62) - 1, 1 << 62, -(1 << 62), -(1 << 62) - 1]
    corners += [top - z, top + 1 - z, -top - 1 - z, -top - 2 - z]  # c = z + ρ on either side of the edge
    for corner in corners:
        rho = wrapped(np.array([[corner]], dtype=object))
        crosses = not -top - 1 <= z + int(rho[0, 0]) <= top

        played = play(lambda p, x: truncate(p, x, 10, 0, "z"), Input(np.array([[z]]), rho=rho))

        garbled = abs(int(error_in_raw_units(played.out, np.array([[z]]), 10)[0, 0])) >= 1 << 10
        assert garbled == crosses
        assert (played.alarm != 0) == crosses


@pytest.mark.parametrize("count", [1, 2, 3, 4, 64, 65])
def test_even_numbers_of_wraps_in_one_array_do_not_hide_each_other(count: int) -> None:
    z, rho = np.full((1, 70), 5, np.int64), np.zeros((1, 70), np.int64)
    rho[0, :count] = np.iinfo(np.int64).max

    played = play(lambda p, x: truncate(p, x, 10, 0, "z"), Input(z, rho=rho))

    assert (abs(error_in_raw_units(played.out, z, 10)) >= 1 << 10).sum() == count
    assert played.alarm != 0


def test_ragged_rows_are_truncated_and_watched_too() -> None:
    rows, extent = Rows(9, 62, 4), Extent(key=3)
    total = int(rows.offsets(extent)[-1])
    rng = np.random.default_rng(2)
    z = rng.integers(-(1 << 30), 1 << 30, total)
    rho = words(rng, total) >> 2

    clean = play(lambda p, x: truncate(p, x, 12, 0, "z"), Input(z, extent, rho=rho.copy()), rows=rows)
    assert clean.alarm == 0
    assert (abs(error_in_raw_units(clean.out, z, 12)) < 1 << 12).all()

    for at in (0, 63, 64, 188, 189, 200, total - 1):  # about the bounds of words and rows
        planted = rho.copy()
        planted[at] = np.iinfo(np.int64).max if z[at] > 0 else np.iinfo(np.int64).min
        played = play(lambda p, x: truncate(p, x, 12, 0, "z"), Input(z, extent, rho=planted), rows=rows)
        assert played.alarm != 0
        assert np.flatnonzero(abs(error_in_raw_units(played.out, z, 12)) >= 1 << 12).tolist() == [at]


@given(bits=st.integers(2, 30), down=st.integers(1, 20), seed=seeds)
@few
def test_a_local_truncation_is_within_one_unit_and_deals_a_fresh_share(bits: int, down: int, seed: int) -> None:
    z = sizes(np.random.default_rng(seed), 2, 33, bits=40)

    def program(p: object, x: object) -> tuple[object, ...]:
        first = as_wire(p, x)
        return first, rescale(p, first, bits + down, bits, "z")

    played = play(program, Input(z), seed=seed)

    assert (abs(error_in_raw_units(played.outputs[1], z, down)) < rescale.error.units * (1 << down)).all()
    assert (played.rounds, played.alarm) == (0, 0)
    before, after = played.evaluated[0]
    assert not np.isin(after.share(), before.share()).any()
    assert not np.isin(after.share(), before.share() >> down).any()


@given(up=st.integers(0, 30), seed=seeds)
@few
def test_a_local_truncation_towards_more_bits_is_exact_and_deals_a_share_of_its_own(up: int, seed: int) -> None:
    z = words(np.random.default_rng(seed), 2, 5)

    def program(p: object, x: object) -> tuple[object, ...]:
        first = as_wire(p, x)
        return first, rescale(p, first, 10, 10 + up, "z")

    played = play(program, Input(z), seed=seed)

    np.testing.assert_array_equal(played.outputs[1], wrapped(big(z) << up))
    only_the_wire = play(as_wire, Input(z), seed=seed)
    assert len(played.material) == len(only_the_wire.material) + z.nbytes
    assert played.rounds == 0
    before, after = played.evaluated[0]
    assert not np.isin(after.share(), before.share() << up).any()


def test_an_opening_of_five_bytes_is_not_truncated() -> None:
    with pytest.raises(ValueError, match="full opening"):
        play(lambda p, x: truncate(p, x, 10, 0, "z"), Input(np.ones((1, 2), np.int64), bits=40))


def test_the_mask_of_an_opening_of_five_bytes_is_not_truncated() -> None:
    with pytest.raises(ValueError, match="full opening"):
        deal(cast(Dealing, None), Rho(np.ones((1, 2), np.int64), Extent(2), 40), 10, 0, "z")


def test_a_share_of_another_shape_than_its_opening_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numpy would spread one row's share over all rows, and the result would be wrong without a word."""
    share = Evaluation.share

    def of_one_row(e: Evaluation, name: str, *rest: Any, **options: Any) -> Ring:
        return share(e, name, *rest, **options)[: 1 if name == "lam" else None]

    monkeypatch.setattr(Evaluation, "share", of_one_row)
    with pytest.raises(ValueError, match="not its opening's shape"):
        play(lambda p, x: truncate(p, x, 50, 40, "z"), Input(np.ones((3, 2), np.int64)))


def test_a_narrow_wire_is_not_truncated() -> None:
    def program(p: object, x: object) -> object:
        return rescale(p, rotate(p, x, Rotary(0, 1, 2, 1e4, 14), 34), 12, 10, "z")

    with pytest.raises(ValueError, match="2\\^34"):
        play(program, Input(np.ones((1, 2), np.int64)), rows=Rows(3, 0, 1))
