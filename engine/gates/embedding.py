"""The embedding: a secret table read at an index that only the dealer knows (protocol, section 7).

Ahead: the dealer deals the one-hot bits of a *random* index r and draws the output's mask ρ*, so nothing that is dealt
depends on the token. Online it sends tok - r mod vocab to both; v_i = ±Σ_j u_i[j]·m_E[j + tok - r], v1 + v2 = σ·m_E[tok].
    round 1: open it;   round 2: multiply by σ, with t = -σ·λ_v - Λ_E[tok] and κ2 = ρ* + t - κ1 sent to the second evaluator.
The table is stored at the residual's scale, so ρ* is the wire's λ. Dealt: vocab / 8 bytes, 8 of σ. Online from the dealer:
4 bytes a token to each evaluator, 8·d_model to the second.
"""

import numpy as np

from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.program.gate import Gate
from engine.ring.fixed import Real, Ring
from engine.ring.kernels.lookups import deal_onehot
from engine.ring.kernels.rotation import rotated_rows
from engine.rows.run import Extent
from engine.wire import Mask, Wire


def words_of(vocab: int) -> int:
    """64-bit words of a one-hot vector over the vocabulary."""
    return -(-vocab // 64)


def deal(d: Dealing, tokens: Ring, vocab: int, d_model: int) -> Mask:
    """λ of the residual; `tokens` holds the rows' random indices r.

    The dealer keeps two arrays for its online message: "index", r [rows], and "base", ρ* - σ·λ_v - κ1 [rows, d_model].
    """
    extent = Extent(d_model)
    first = d.first("u").reshape(-1)
    second, sigma = np.empty_like(first), np.empty(d.rows.count, np.int64)
    deal_onehot(tokens, first, 0, words_of(vocab), second, sigma)
    d.deal("u", second)
    d.share("sigma", sigma)
    v1, v2 = d.kappa("v", extent)
    star1, star2 = d.kappa("star", extent)
    one, _ = d.kappa("z", extent)
    star = star1 + star2
    d.keep("index", tokens)
    d.keep("base", star - sigma[:, None] * (v1 + v2) - one)
    return Mask(star, extent)


def evaluate(e: Evaluation, tokens: tuple[Ring, Ring], vocab: int, d_model: int) -> Wire:
    """The residual's wire; `tokens` = (tok - r mod vocab [rows], κ2 [rows, d_model] or empty at the first evaluator)."""
    extent = Extent(d_model)
    deltas, kappa2 = tokens
    bits, sigma = e.share("u", Extent(1), words_of(vocab)), e.share("sigma", Extent(1))
    kappa_v, star, kappa = e.kappa("v", extent), e.kappa("star", extent), e.kappa("z", extent)
    v = np.array(kappa_v)
    rotated_rows(np.ascontiguousarray(bits), deltas, e.weights.masked("embed"), e.sign, v)
    m_v = e.open(v, extent).c
    z = sigma.reshape(-1, 1) * m_v + (kappa if e.role == 1 else kappa2)
    return Wire(e.open(z, extent).c, star, extent)


def clear(p: Clear, tokens: Ring, vocab: int, d_model: int) -> Real:
    """Rows of the table."""
    del vocab, d_model
    return p.weights("embed")[tokens]


embedding = Gate("embedding", deal, evaluate, clear)
