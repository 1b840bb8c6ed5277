"""What the leader of a chain decides by itself: translations, covariances, and proposals that shards give sums for."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.effects.iid import BlockTable, log_prior
from bayou.engines.covariances import coordinates_of, density_at, precision_from_factors, scaled, sheared
from bayou.engines.glmm.population import log_prior_fixed
from bayou.engines.glmm.regression import reverse_density
from bayou.engines.moves import draw_block, draw_scale
from bayou.jit import kernel
from bayou.linalg.schur import Border
from bayou.linalg.small import (
    cholesky,
    cholesky_in_place,
    fill,
    solve_lower,
    solve_lower_transposed,
)
from bayou.priors.table import prior_log_density

BEST_ONE = 0.44  # acceptance rate aimed at (Roberts & Rosenthal 2001)


class Leader(NamedTuple):
    """What all chains know of a model without its rows."""

    blocks: BlockTable
    border: Border
    beta_codes: Integers
    beta_parameters: Array
    curvature: Array  # (P,)
    levels: float
    coefficient: Integers  # (E,) of the translations, as in `engines.centring`
    direction: Array  # (E, P)
    reading: Array  # (E, P)
    moments: Array  # (E, E)
    prior: Array  # (E, E)


class Head(NamedTuple):
    """What the leader of a chain carries from sweep to sweep, and its scratch."""

    beta: Array  # (P,)
    L: Array  # (B, m, m)
    dispersion: Array  # (S,)
    tune: Array  # (B, m + 1)
    step: Array  # (1,) log step length of the dispersion
    walk: Array  # (1,) log scale of the random walk
    scatter: Array  # (p, p) Σ b b'
    sums: Array  # (E, p) Σ u b
    Q: Array  # (p, p)
    Sigma: Array  # (p, p) lower factor
    proposed: Array  # (B, m, m)
    Q_new: Array  # (p, p)
    d: Array  # (E,)
    vectors: Array  # (4, k)
    work: Array  # (7, k, k)


@kernel(entry=True)
def draw_translations(leader: Leader, head: Head, rng: np.random.Generator) -> None:
    """D of all translations (`engines.centring.move_centres`), into ``head.d``; beta and the sums move along."""
    E, P, p = leader.coefficient.shape[0], leader.border.linear.shape[0], head.Q.shape[0]
    d, slack = head.vectors[0], head.vectors[1]
    L = head.work[0]
    for e in range(E):
        head.d[e] = 0.0
    for a in range(P):
        t = leader.border.linear[a]
        for c in range(P):
            t -= leader.border.precision[a, c] * head.beta[c]
        slack[a] = t
    for e in range(E):
        k = leader.coefficient[e]
        t = 0.0
        for i in range(p):
            t += head.Q[k, i] * head.sums[e, i]
        for a in range(P):
            t += leader.direction[e, a] * slack[a]
        d[e] = t
        for c in range(e + 1):
            L[e, c] = leader.prior[e, c] + leader.moments[e, c] * head.Q[k, leader.coefficient[c]]
    if E == 0 or not cholesky(L, L, E):
        return
    solve_lower(L, d, E)
    for e in range(E):
        d[e] += rng.standard_normal()
    solve_lower_transposed(L, d, E)
    # of b less Σ_e d_e u_e e_k: scatter, then sums
    for e in range(E):
        head.d[e] = d[e]
        k = leader.coefficient[e]
        for a in range(P):
            head.beta[a] += leader.direction[e, a] * d[e]
        for i in range(p):
            head.scatter[k, i] -= d[e] * head.sums[e, i]
            head.scatter[i, k] -= d[e] * head.sums[e, i]
        for c in range(E):
            head.scatter[k, leader.coefficient[c]] += d[e] * d[c] * leader.moments[e, c]


@kernel(entry=True)
def draw_covariances(leader: Leader, head: Head, rng: np.random.Generator) -> bool:
    """Every block given the scatter of its coefficients."""
    blocks = leader.blocks
    scatter = head.work[6]
    for r in range(blocks.size.shape[0]):
        q, s = blocks.size[r], blocks.start[r]
        for i in range(q):
            for k in range(q):
                scatter[i, k] = head.scatter[s + i, s + k]
        if not draw_block(blocks, r, leader.levels, scatter, head.L[r], head.work[3:6], head.work[2], rng):
            return False
    return True


@kernel(entry=True)
def set_precision(leader: Leader, head: Head) -> bool:
    """Q and the factor of Sigma from the blocks."""
    blocks, p = leader.blocks, head.Q.shape[0]
    fill(head.Sigma, 0.0)
    for r in range(blocks.size.shape[0]):
        q, s = blocks.size[r], blocks.start[r]
        for i in range(q):
            for k in range(i + 1):
                head.Sigma[s + i, s + k] = head.L[r, i, k]
    return precision_from_factors(blocks, head.L, head.Q.reshape((1, p, p)), head.work)


@kernel(entry=True)
def propose_scaling(leader: Leader, head: Head, r: int, c: int, move: float) -> float:
    """``head.proposed[r]`` <- L with row c scaled by exp(move); returns the log ratio without the likelihood."""
    p = leader.blocks.size[r]
    L, new = head.L[r], head.proposed[r]
    scaled(L, p, c, math.exp(move), new)
    ratio: float = log_prior(leader.blocks, r, new, head.work[0]) - log_prior(leader.blocks, r, L, head.work[0])
    return ratio + (p + 1.0) * move


@kernel(entry=True)
def propose_shear(leader: Leader, head: Head, r: int, c: int, e: int, size: float) -> tuple[float, float]:
    """``head.proposed[r]`` <- L with b_c + move b_e in place of b_c; returns the move and the log ratio."""
    p = leader.blocks.size[r]
    L, new, inverse, product = head.L[r], head.proposed[r], head.work[0], head.work[1]
    move, possible = sheared(L, p, c, e, size, new, inverse, product)
    if not possible:
        return move, -math.inf
    after = log_prior(leader.blocks, r, new, inverse)
    return move, after - log_prior(leader.blocks, r, L, inverse)


@kernel(entry=True)
def density(leader: Leader, t: Array, L: Array, Q: Array, work: Array) -> float:
    """Factors L and precision Q at coordinates t; log p(Sigma) + log Jacobian − levels x log|L|."""
    return density_at(leader.blocks, 0, leader.levels, t, L, Q, work)


@kernel(entry=True)
def coordinates(leader: Leader, head: Head, t: Array) -> int:
    """T <- coordinates of the blocks, then the fixed effects if there is room; returns where these begin."""
    at = coordinates_of(leader.blocks, 0, head.L, t)
    for i in range(at, t.shape[0]):
        t[i] = head.beta[i - at]
    return at


@kernel(entry=True)
def prior_of_fixed(leader: Leader, beta: Array) -> float:
    """Log p(beta) up to a constant."""
    return log_prior_fixed(leader.border, leader.beta_codes, leader.beta_parameters, beta)


@kernel(entry=True)
def complete(leader: Leader, beta: Array, H: Array, g: Array) -> bool:
    """H <- factor of X'WX and the prior's precision, g <- its score."""
    P = beta.shape[0]
    for i in range(P):
        g[i] += leader.border.linear[i]
        for k in range(P):
            g[i] -= leader.border.precision[i, k] * beta[k]
        for k in range(i + 1):
            H[i, k] += leader.border.precision[i, k]
        H[i, i] += leader.curvature[i]
    return cholesky_in_place(H)


@kernel(entry=True)
def newton(H: Array, g: Array, length: float, step: Array) -> float:
    """Step <- a part of the Newton step; returns twice the gain that the whole of it promises."""
    P = g.shape[0]
    solve_lower(H, g, P)
    gain = 0.0
    for i in range(P):
        gain += g[i] * g[i]
        step[i] = length * g[i]
    solve_lower_transposed(H, step, P)
    return gain


@kernel(entry=True)
def propose_fixed(
    H: Array, g: Array, walking: bool, scale: float, step: Array, diagonal: Array, rng: np.random.Generator
) -> float:
    """Step <- a draw around the Newton step, or a random walk shaped like it; returns −log density of the draw."""
    P = g.shape[0]
    solve_lower(H, g, P)
    ratio = 0.0
    for i in range(P):
        z = rng.standard_normal()
        ratio += 0.5 * z * z
        diagonal[i] = H[i, i]
        step[i] = scale * z if walking else g[i] + z
    solve_lower_transposed(H, step, P)
    return ratio


@kernel(entry=True)
def back(H: Array, g: Array, walking: bool, scale: float, step: Array, diagonal: Array) -> float:
    """Log density of the step back, relative to the determinant of a factor with this ``diagonal``."""
    P = g.shape[0]
    if walking:
        for i in range(P):
            g[i] = 0.0
            step[i] /= scale
    else:
        solve_lower(H, g, P)
    return reverse_density(H, g, step, 0, P, diagonal)


@kernel(entry=True)
def draw_sigma(s: float, n: float, squares: float, code: int, parameters: Array, rng: np.random.Generator) -> float:
    """Draw a residual sd given its squares."""
    return draw_scale(s, n, squares, code, parameters, rng)


@kernel(entry=True)
def prior_of_scale(code: int, a: Array, s: float) -> float:
    """Log p(s)."""
    return prior_log_density(code, a[0], a[1], a[2], s)
