"""One sweep of the Gibbs sampler for crossed factors: each factor's coefficients in turn, fixed effects integrated out.

For every factor k, given the coefficients of the others,

1. its covariance and sigma from their density with (beta, b_k) integrated out (`theta`),
2. (beta, b_k) from their Gaussian: beta with b_k integrated out, then b_k given beta;

then what no row sees, the shifts of one factor's coefficients against another's, part by part of their graph. Drawing
the intercept anew with every factor is the collapsed sampler of Papaspiliopoulos, Roberts & Zanella (Biometrika 107,
2020): plain Gibbs needs a number of sweeps that grows with the levels, this one's is bounded wherever the levels are
well connected (Ghosh & Zhong 2021; Papaspiliopoulos, Stumpf-Fétizon & Zanella 2023, with fixed effects and nested
factors, whose local centring is the second move). A sweep costs one pass over the entries for each factor.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.covariances import precision_from_factors
from bayou.engines.crossed.coefficients import draw_fixed_effects, draw_levels, integrate, sum_classes
from bayou.engines.crossed.layout import Codes, Crossed
from bayou.engines.crossed.passes import cross_sums, remember
from bayou.engines.crossed.solving import draw_jointly
from bayou.engines.crossed.state import CrossState, combine_levels
from bayou.engines.crossed.system import Solver
from bayou.engines.crossed.theta import MOST, slice_theta
from bayou.engines.moves import draw_block, draw_scale
from bayou.jit import kernel


@kernel(inner=True)
def translate(target: Crossed, state: CrossState, noise: float, rng: np.random.Generator) -> None:
    """Draw for every pair of factors, and part of their graph, what the one gains and the other loses."""
    pairs, b, shifts, precise = target.translations, state.b, state.shifts, state.precise
    for n in range(pairs.parts.shape[0]):
        f, g, i, m = pairs.one[n], pairs.other[n], pairs.one_column[n], pairs.other_column[n]
        p, q = target.sizes[f], target.sizes[g]
        parts = pairs.parts[n]
        for c in range(parts):
            shifts[c] = 0.0
            at = pairs.at_count[n] + c
            precise[c] = pairs.one_count[at] * state.Q[f, i, i] + pairs.other_count[at] * state.Q[g, m, m]
        for j in range(target.levels[f]):
            t = 0.0
            for e in range(p):
                t += state.Q[f, i, e] * b[target.at_b[f] + j * p + e]
            shifts[pairs.part[pairs.at_one[n] + j]] -= t
        for j in range(target.levels[g]):
            t = 0.0
            for e in range(q):
                t += state.Q[g, m, e] * b[target.at_b[g] + j * q + e]
            shifts[pairs.part[pairs.at_other[n] + j]] += t
        for c in range(parts):
            shifts[c] = shifts[c] / precise[c] + noise * rng.standard_normal() / math.sqrt(precise[c])
        for j in range(target.levels[f]):
            b[target.at_b[f] + j * p + i] += shifts[pairs.part[pairs.at_one[n] + j]]
        for j in range(target.levels[g]):
            b[target.at_b[g] + j * q + m] -= shifts[pairs.part[pairs.at_other[n] + j]]


@kernel(inner=True)
def scatter_of_block(target: Crossed, state: CrossState, r: int, out: Array) -> None:
    """Out <- sum over the levels of b_j b_j' of block r."""
    blocks, b = target.blocks, state.b
    k, s, p = blocks.grouping[r], blocks.start[r], blocks.size[r]
    q = target.sizes[k]
    for i in range(p):
        for e in range(i + 1):
            t = 0.0
            at = target.at_b[k] + s
            for _ in range(target.levels[k]):
                t += b[at + i] * b[at + e]
                at += q
            out[i, e] = t
            out[e, i] = t


@kernel(inner=True)
def draw_wide_blocks(target: Crossed, state: CrossState, k: int, rng: np.random.Generator) -> bool:
    """Covariances of more numbers than slices visit: given the coefficients too, where priors make that easy.

    The precisions Q follow: a joint draw comes after the last factor's.
    """
    blocks, drawn = target.blocks, False
    for r in range(blocks.size.shape[0]):
        p = blocks.size[r]
        if blocks.grouping[r] == k and p * (p + 1) // 2 > MOST:
            scatter_of_block(target, state, r, state.work[6])
            J = float(target.levels[k])
            if not draw_block(blocks, r, J, state.work[6], state.L[r], state.work[3:6], state.work[2], rng):
                return False
            drawn = True
    return not drawn or precision_from_factors(blocks, state.L, state.Q, state.work[4:])


@kernel(inner=True)
def draw_sigmas(target: Crossed, state: CrossState, codes: Codes, rng: np.random.Generator) -> None:
    """Each of several residual sds given everything, from one more pass over the entries."""
    S, P, K = state.sigma.shape[0], state.beta.shape[0], target.levels.shape[0]
    start, W, Z, b, beta = target.start, target.W, target.Z, state.b, state.beta
    squares = state.by_sigma
    for s in range(S):
        t = target.squares[s]
        for c in range(P):
            e = -2.0 * target.d[s, c]
            for i in range(P):
                e += target.D[s, c, i] * beta[i]
            t += e * beta[c]
        for i in range(b.shape[0]):
            t -= 2.0 * target.a[s, i] * b[i]
        for k in range(K):
            for i in range(target.at_b[k + 1] - target.at_b[k]):
                e = 0.0
                for c in range(P):
                    e += target.B[s, target.at_B[k] + i * P + c] * beta[c]
                t += 2.0 * e * b[target.at_b[k] + i]
        squares[s] = t
    ones, weighted = Z.shape[0] == 0, W.shape[0] > 0
    width = target.at_z[K - 1] + target.sizes[K - 1]
    for j in range(start.shape[0] - 1):
        for e in range(start[j], start[j + 1]):
            t = 0.0
            for f in range(K):
                level = codes[f - 1, e] if f > 0 else j
                p = target.sizes[f]
                at = target.at_b[f] + level * p
                if ones:
                    t += b[at]
                else:
                    for i in range(p):
                        t += Z[e * width + target.at_z[f] + i] * b[at + i]
            squares[codes[K - 1, e]] += (W[e] if weighted else 1.0) * t * t
    for s in range(S):
        # a sum of squares that cancelled to nothing must not become a negative scale
        ss = max(squares[s], 1e-14 * target.squares[s])
        state.sigma[s] = draw_scale(state.sigma[s], target.rows[s], ss, target.sigma_code, target.sigma_parameters, rng)


@kernel(inner=True)
def sweep(target: Crossed, state: CrossState, codes: Codes, held: bool, noise: float, rng: np.random.Generator) -> bool:
    """One sweep; with covariances and sigma ``held`` only coefficients move, without ``noise`` to their means."""
    K, S = target.levels.shape[0], state.sigma.shape[0]
    if not precision_from_factors(target.blocks, state.L, state.Q, state.work[4:]):
        return False
    w = combine_levels(target, state)
    translate(target, state, noise, rng)
    total = 0.0
    for k in range(K):
        remember(target, state, k)
        total += state.seen[k]
    for k in range(K):
        quadratic = target.squares[0] - 2.0 * (total - state.seen[k]) + cross_sums(target, state, codes, k)
        sum_classes(target, state, k)
        ok = True
        if held:
            ok, _, _ = integrate(target, state, k, w)
        else:
            quadratic = max(quadratic, 1e-14 * target.squares[0])
            ok, w = slice_theta(target, state, k, quadratic, rng)
        ok = ok and draw_fixed_effects(target, state, noise, rng) and draw_levels(target, state, k, w, noise, rng)
        if not ok or not (held or draw_wide_blocks(target, state, k, rng)):
            return False
        total -= state.seen[k]
        remember(target, state, k)
        total += state.seen[k]
    if S > 1 and not held and not target.sigma_known:
        draw_sigmas(target, state, codes, rng)
    return True


@kernel(inner=True)
def write_down(state: CrossState, i: int, beta: Array, b: Array, L: Array, sigma: Array) -> None:
    """Write the state as draw i."""
    for c in range(beta.shape[1]):
        beta[i, c] = state.beta[c]
    for r in range(L.shape[1]):
        for e in range(L.shape[2]):
            for c in range(e + 1):
                L[i, r, e, c] = state.L[r, e, c]
    for s in range(sigma.shape[1]):
        sigma[i, s] = state.sigma[s]
    if b.shape[1] > 0:
        for c in range(b.shape[1]):
            b[i, c] = state.b[c]


@kernel(entry=True)
def run_sweeps(
    target: Crossed,
    state: CrossState,
    codes: Codes,
    held: bool,
    noise: float,
    thin: int,
    beta: Array,
    b: Array,
    L: Array,
    sigma: Array,
    rng: np.random.Generator,
) -> int:
    """Fill the draws; returns how many were made: fewer than asked only if a matrix lost its definiteness."""
    for i in range(beta.shape[0]):
        for _ in range(thin):
            if not sweep(target, state, codes, held, noise, rng):
                return i
        write_down(state, i, beta, b, L, sigma)
    return beta.shape[0]


@kernel(entry=True)
def run_joint_sweeps(
    target: Crossed,
    state: CrossState,
    solver: Solver,
    codes: Codes,
    held: bool,
    thin: int,
    beta: Array,
    b: Array,
    L: Array,
    sigma: Array,
    rng: np.random.Generator,
) -> int:
    """Fill the draws as `run_sweeps` does, each sweep followed by a joint draw of all coefficients."""
    for i in range(beta.shape[0]):
        for _ in range(thin):
            if not sweep(target, state, codes, held, 1.0, rng) or not draw_jointly(target, state, solver, codes, rng):
                return i
        write_down(state, i, beta, b, L, sigma)
    return beta.shape[0]
