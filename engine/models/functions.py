"""The functions behind a program's look-up tables: exact for the reader in the clear, fitted integers for the evaluators."""

from collections.abc import Callable

import numpy as np

from engine.functions.tables import fit, fit_wide, powers_of_two, rotate_ready, silu
from engine.models.config import ModelSpec, Norm
from engine.models.llama import score_windows
from engine.ring.fixed import Real, Ring

Function = Callable[[Real], Real]


def functions(spec: ModelSpec) -> dict[str, Function]:
    """Each table's function on real arguments (Σ x² for a norm)."""
    out: dict[str, Function] = {"reciprocal": lambda x: 1.0 / x}

    def inverse_rms(squares: Real) -> Real:
        return np.asarray(1.0 / np.sqrt(squares / spec.d_model + spec.rms_eps))

    out |= dict.fromkeys(spec.norms(), inverse_rms)
    out |= {f"{i}.silu": silu for i in range(spec.layers)}
    return out


def tables(spec: ModelSpec) -> dict[str, Ring]:
    """Every look-up table as the evaluators read it; made once, when the model is shared, and stored in its packs
    (two machines' libraries may round a table's last bit differently, and shares of different tables are noise).
    """
    b = spec.scales
    out: dict[str, Ring] = {}
    for name, norm in spec.norms().items():
        scaled = _scaled_rsqrt(spec, norm)
        bits = b.final_rsqrt if name == "final_norm" else b.rsqrt
        out[name] = fit_wide(scaled, norm.window, 2 * b.norm, bits).reshape(-1)
    out["reciprocal"] = fit_wide(lambda x: 1.0 / x, spec.reciprocal, b.probability, b.reciprocal).reshape(-1)
    for i, layer in enumerate(spec.layer):
        table = fit(
            silu, layer.silu.window, b.hidden + spec.weight_bits[f"{i}.gate"], layer.silu.degree, b.activation + layer.ffn_extra
        )
        out[f"{i}.silu"] = rotate_ready(table)
    cells = score_windows(spec)[1]
    exponents = b.probability + 4 * (cells.lowest + np.arange(cells.cells))
    exact = np.where(exponents < 0, np.rint(np.exp2(np.minimum(exponents, 0.0))), 0).astype(np.int64)
    shifted = np.int64(1) << np.clip(exponents, 0, 40).astype(np.int64)
    out["exp"] = rotate_ready(np.where(exponents < 0, exact, shifted)[None, :])
    out["pow.coarse"], out["pow.fine"] = powers_of_two()
    return out


def _scaled_rsqrt(spec: ModelSpec, norm: Norm) -> Function:
    """Of Σ (x / 2^E)²: 2^E / rms(x)."""
    unit = 4.0**norm.exponent

    def f(squares: Real) -> Real:
        return np.asarray(1.0 / np.sqrt(squares / spec.d_model + spec.rms_eps / unit))

    return f
