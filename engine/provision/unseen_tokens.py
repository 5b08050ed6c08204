"""Tokens that no calibration text holds: every row of the embedding table is one that somebody may send.

Of a row alone follow Σ x² of the first norm, exactly, so that its window holds all rows. What later layers make of unusual
rows is seen by running some of them as texts: the shortest, the longest and a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt

import numpy as np

from engine.models.config import ModelSpec
from engine.ring.fixed import Real

EXTREMES = 16  #: shortest rows, and as many longest, that are run as text; rows of one length count once
SAMPLED = 64  #: and tokens from all over the vocabulary
GOLDEN = 0.6180339887
LEAST_UNITS = 100.0  #: of 2^-residual in the usual row's rms: its rounding, 0.29 of a unit, is then 0.3 % of it
USUAL_UNITS = 600.0  #: that the residual's bits aim at
SHORT_UNITS = 2000.0  #: and of the square root of ε + the least Σ x² / d
MOST_RESIDUAL = 24
TINY = 1e-30
ROUNDING, BLUR = 0.41, 0.001  #: rms of a truncation in units; of a normalised row, what is said
SHOWN = 8  #: tokens that are named
NEGLIGIBLE = 64.0  #: Σ x² below the norm's ε · d by this factor moves 1 / rms by less than 1 %


@dataclass(frozen=True)
class EmbeddingRows:
    """The embedding table's rows."""

    squares: Real  #: Σ x² of each
    residual: int  #: fraction bits that the residual needs
    texts: Sequence[Sequence[int]]  #: unusual tokens, twice, in two orders

    @property
    def lowest(self) -> float:
        """The smallest Σ x²."""
        return float(self.squares.min())

    @property
    def highest(self) -> float:
        """The largest Σ x²."""
        return float(self.squares.max())

    def blurred(self, spec: ModelSpec) -> str:
        """A sentence on the rows that are too short, beside the others, for the first norm's fixed point; "" if none is."""
        unit = 2.0 ** (spec.layer[0].attention_norm.exponent - spec.scales.norm)
        errors = ROUNDING * unit / np.sqrt(self.squares / spec.d_model + spec.rms_eps)  # beside a normalised row's 1
        tokens = np.flatnonzero((errors > BLUR) & (self.squares > 0))  # zeros are exact
        if not tokens.size:
            return ""
        shown = ", ".join(map(str, tokens[:SHOWN])) + (", …" if tokens.size > SHOWN else "")
        return (
            f"the embedding rows of {tokens.size} tokens ({shown}) are so much shorter than the others that what is computed "
            f"of these tokens is off by {errors[tokens].max():.1%} of a usual row and more"
        )


def rows_of(spec: ModelSpec, table: Real) -> EmbeddingRows:
    """What the table [vocab, d_model] holds.

    Raises:
        ValueError: usual rows are so short that fixed point would blur them.
    """
    squares = np.einsum("ij,ij->i", table, table)
    usual = sqrt(np.median(squares[squares > 0]) / spec.d_model) if squares.any() else TINY
    least = sqrt(float(squares.min()) / spec.d_model + spec.rms_eps)
    wanted = ceil(log2(max(USUAL_UNITS / usual, SHORT_UNITS / least)))
    written = [bits for name, bits in spec.weight_bits.items() if name.endswith((".o", ".down"))]
    most = min(MOST_RESIDUAL, spec.scales.activation + min(written) - 1)
    residual = max(min(wanted, most), spec.scales.residual)
    if usual * 2.0**residual < LEAST_UNITS:
        needed = f"{LEAST_UNITS * 2.0**-residual:.2g}"
        raise ValueError(f"the embedding's usual row has an rms of {usual:.2g}, fixed point needs {needed}")
    return EmbeddingRows(squares, residual, _texts(spec, squares))


def _texts(spec: ModelSpec, squares: Real) -> list[list[int]]:
    _, distinct = np.unique(squares, return_index=True)  # in the order of their lengths
    sample = np.linspace(0, spec.vocab - 1, SAMPLED).astype(np.int64)
    tokens = np.concatenate([distinct[:EXTREMES], distinct[-EXTREMES:], sample])
    tokens = tokens[np.argsort(np.arange(tokens.size) * GOLDEN % 1)]  # mixed, on every machine alike
    longest = max(spec.context - len(spec.prefix), 1)
    pieces = [tokens[at : at + longest].tolist() for at in range(0, tokens.size, longest)]
    return [text for piece in pieces for text in (piece, piece[::-1])]
