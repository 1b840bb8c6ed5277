"""The covariance of a correlated block in its internal coordinates, and derivatives through it.

Sigma = L L' with L = diag(sd) times the factor of the correlation matrix, whose rows spend their unit length on
hyperbolic tangents of the coordinates, column by column (Lewandowski, Kurowicka & Joe 2009). In these coordinates

    log |dSigma / dtheta| = p log 2 + (p + 1) Σ log sd_k + Σ_{j<i} ((p − j)/2) log(1 − rho_ij²),      j from 0,
    log LKJ(eta)          = constant + Σ_{j<i} (eta + (p − 2 − j)/2) log(1 − rho_ij²).
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.effects.iid import HUANG_WAND, BlockTable, log_prior
from bayou.jit import kernel

__all__ = ["factor_block", "matrix_prior", "pull_back"]


@kernel(inner=True)
def factor_block(theta: Array, at: int, p: int, exponent: float, L: Array, slope: Array) -> float:
    """Fill L, add to ``slope`` that of Σ (exponent − j/2) log(1 − rho_ij²), which is returned."""
    total = 0.0
    c = at + p
    for i in range(p):
        sd, left = math.exp(theta[at + i]), 1.0
        for j in range(i):
            z = theta[c]
            rho = math.tanh(z)
            # 1 − tanh² without cancellation
            e = math.exp(-2.0 * abs(z))
            rest = 4.0 * e / ((1.0 + e) * (1.0 + e))
            power = exponent - 0.5 * j
            total += power * (math.log(4.0) - 2.0 * abs(z) - 2.0 * math.log1p(e))
            slope[c] -= 2.0 * rho * power
            L[i, j] = sd * rho * math.sqrt(left)
            left *= rest
            c += 1
        L[i, i] = sd * math.sqrt(left)
    return total


@kernel(inner=True)
def matrix_prior(blocks: BlockTable, r: int, L: Array, G: Array, W: Array, inner: Array) -> float:
    """Return log p(Sigma) of a prior of the whole matrix, up to a constant, and fill G with its slope by L.

    With W = L⁻¹: of an inverse-Wishart −(df + p + 1)/L_aa on the diagonal and W'(W S W') below it; of Huang & Wand
    −(df + 2p)/L_aa and (df + p) Σ_k df W_bk (Sigma⁻¹)_ka / (df (Sigma⁻¹)_kk + 1/A_k²), that is W'(W S W') again, for
    S = diag((df + p) df / (…)).
    """
    value = log_prior(blocks, r, L, W)
    p, df = blocks.size[r], blocks.df[r]
    huang_wand = blocks.kind[r] == HUANG_WAND
    for i in range(p):
        for k in range(i + 1):
            inner[i, k] = 0.0
    for k in range(p):
        if huang_wand:
            q = 0.0
            for i in range(k, p):
                q += W[i, k] * W[i, k]
            s = (df + p) * df / (df * q + 1.0 / (blocks.A[r, k] * blocks.A[r, k]))
            for i in range(k, p):
                for j in range(k, i + 1):
                    inner[i, j] += s * W[i, k] * W[j, k]
            continue
        for m in range(p):
            s = blocks.scale[r, k, m]
            for i in range(k, p):
                for j in range(m, i + 1):
                    inner[i, j] += s * W[i, k] * W[j, m]
    own = df + 2.0 * p if huang_wand else df + p + 1.0
    for a in range(p):
        for b in range(a + 1):
            t = 0.0
            for i in range(a, p):
                t += W[i, a] * (inner[i, b] if i >= b else inner[b, i])
            G[a, b] = t - (own / L[a, a] if a == b else 0.0)
    return value


@kernel(inner=True)
def pull_back(theta: Array, at: int, p: int, L: Array, G: Array, slope: Array) -> None:
    """Add to ``slope`` (by theta) what a slope G by L amounts to."""
    c = at + p
    for i in range(p):
        later = 0.0
        for j in range(i + 1):
            later += G[i, j] * L[i, j]
        slope[at + i] += later
        left = 1.0
        sd = math.exp(theta[at + i])
        for j in range(i):
            z = theta[c]
            rho = math.tanh(z)
            e = math.exp(-2.0 * abs(z))
            rest = 4.0 * e / ((1.0 + e) * (1.0 + e))
            later -= G[i, j] * L[i, j]
            slope[c] += G[i, j] * sd * rest * math.sqrt(left) - rho * later
            left *= rest
            c += 1
