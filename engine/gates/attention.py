"""q·Kᵀ and p·V over the cache of keys and values: products of wires whose one side is a model's context.

The cache holds, of each key, what a product needs: the evaluators m and A_i (m - λ1, or -λ2), the dealer λ. Prefix
tokens come from the pack, masked like weights. Masked positions are public: they are dropped, not computed, so scores lie
flat as [row][head][key].
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.program.clear import Clear
from engine.program.codec import Codec
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real, Ring
from engine.ring.kernels import attention as kernels
from engine.rows.run import Extent, Rows
from engine.wire import Mask, Opening, Rho, Wire


def _store(cache: NDArray[Any], rows: Rows, new: NDArray[Any]) -> None:
    """Put [rows, kv_heads * head_dim] at the rows' positions of a cache [kv_heads, capacity, head_dim]."""
    heads, _, dim = cache.shape
    cache[:, rows.position : rows.position + rows.count] = new.reshape(rows.count, heads, dim).transpose(1, 0, 2)


def deal_remember(d: Dealing, layer: int, k: Mask, v: Mask) -> None:
    """Keep λ_K and λ_V of the rows."""
    _store(d.masks.keys[layer], d.rows, k.lam)
    _store(d.masks.values[layer], d.rows, v.full().lam)


def evaluate_remember(e: Evaluation, layer: int, k: Wire, v: Wire) -> None:
    """Keep the wires of k and v of the rows."""
    for cache, wire in ((e.weights.keys[layer], k), (e.weights.values[layer], v)):
        _store(cache.masked, e.rows, wire.m)
        _store(cache.online, e.rows, wire.m - wire.share() if e.role == 1 else -wire.share())


def clear_remember(p: Clear, layer: int, k: Real, v: Real) -> None:
    """Keep k and v."""
    _store(p.keys[layer], p.rows, k)
    _store(p.values[layer], p.rows, v)


remember = Gate("remember", deal_remember, evaluate_remember, clear_remember)


def _heads(x: NDArray[Any], heads: int) -> NDArray[Any]:
    return x.reshape(x.shape[0], heads, x.shape[1] // heads)


def deal_scores(d: Dealing, layer: int, q: Mask, heads: int) -> Rho:
    """ρ of q·Kᵀ modulo 2^narrow."""
    extent = Extent(key=heads)
    one, two = d.kappa("z", extent)
    t = np.zeros_like(one)
    kernels.scores(_heads(q.lam, heads), d.masks.keys[layer], d.rows.keys, d.rows.starts, t)
    return Rho(one + two - t, extent, q.bits)


def evaluate_scores(e: Evaluation, layer: int, q: Wire, heads: int) -> Opening:
    """Opens q·Kᵀ modulo 2^narrow in 5 bytes a score, flat [row][head][key]; scale: twice the activations'."""
    extent = Extent(key=heads)
    z = np.array(e.kappa("z", extent))
    cache = e.weights.keys[layer]
    kernels.scores(_heads(q.m, heads), cache.online, e.rows.keys, e.rows.starts, z)
    kernels.scores(_heads(-q.share(), heads), cache.masked, e.rows.keys, e.rows.starts, z)
    return e.open(z, extent, Codec.LOW40)


def clear_scores(p: Clear, layer: int, q: Real, heads: int) -> Real:
    """q·Kᵀ, flat."""
    cache = p.keys[layer]
    group = heads // cache.shape[0]
    shaped = _heads(q, heads)
    out = [
        np.einsum("ghi,gji->ghj", shaped[r].reshape(cache.shape[0], group, -1), cache[:, :n]).reshape(-1)
        for r, n in enumerate(p.rows.keys)
    ]
    flat = np.concatenate(out) if out else np.empty(0)
    p.observer.looked_up(p.section, "score", flat)
    return flat


scores = Gate("scores", deal_scores, evaluate_scores, clear_scores)


def deal_mixture(d: Dealing, layer: int, weights: Mask, heads: int) -> Rho:
    """ρ of p·V, [rows, heads * head_dim]."""
    cache = d.masks.values[layer]
    shape = (d.rows.count, heads, cache.shape[2])
    extent = Extent(heads * cache.shape[2])
    one, two = d.kappa("z", extent)
    t = np.zeros(shape, np.int64)
    kernels.mixture(weights.full().lam, cache, d.rows.keys, d.rows.starts, t)
    return Rho(one + two - t.reshape(one.shape), extent)


def evaluate_mixture(e: Evaluation, layer: int, weights: Wire, heads: int) -> Opening:
    """Opens p·V, [rows, heads * head_dim]; 8 bytes an element."""
    cache = e.weights.values[layer]
    dim = cache.masked.shape[2]
    extent = Extent(heads * dim)
    z = np.array(e.kappa("z", extent)).reshape(e.rows.count, heads, dim)
    kernels.mixture(weights.full().m, cache.online, e.rows.keys, e.rows.starts, z)
    kernels.mixture(-weights.share(), cache.masked, e.rows.keys, e.rows.starts, z)
    return e.open(z.reshape(e.rows.count, heads * dim), extent)


def clear_mixture(p: Clear, layer: int, weights: Real, heads: int) -> Real:
    """p·V."""
    cache = p.values[layer]
    kv, _, dim = cache.shape
    out = np.empty((p.rows.count, heads * dim))
    bounds = p.rows.offsets(Extent(key=heads))
    for r, n in enumerate(p.rows.keys):
        p_row = weights[bounds[r] : bounds[r + 1]].reshape(kv, heads // kv, n)
        out[r] = np.einsum("ghj,gji->ghi", p_row, cache[:, :n]).reshape(-1)
    return out


mixture = Gate("mixture", deal_mixture, evaluate_mixture, clear_mixture)


def _summed(flat: Ring, rows: Rows, heads: int) -> Ring:
    out = np.empty((rows.count, heads), np.int64)
    kernels.sum_keys(flat, rows.keys, rows.starts, out)
    return out


def deal_sum_keys(d: Dealing, x: Mask, heads: int) -> Rho:
    """Σ over keys of a wire: its mask is an offset."""
    return Rho(_summed(x.full().lam, d.rows, heads), Extent(heads))


def evaluate_sum_keys(e: Evaluation, x: Wire, heads: int) -> Opening:
    """Σ_j x[r, h, j], local: a sum of wires is its own opening, [rows, heads]."""
    return e.ready(_summed(x.full().m, e.rows, heads), Extent(heads))


def clear_sum_keys(p: Clear, x: Real, heads: int) -> Real:
    """Σ over keys."""
    bounds = p.rows.offsets(Extent(key=heads))
    out = [x[bounds[r] : bounds[r + 1]].reshape(heads, n).sum(axis=1) for r, n in enumerate(p.rows.keys)]
    return np.array(out).reshape(p.rows.count, heads)


sum_over_keys = Gate("sum_over_keys", deal_sum_keys, evaluate_sum_keys, clear_sum_keys)
