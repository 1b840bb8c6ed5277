"""All coefficients of a crossed model at once, given its covariances, by conjugate gradients.

A right-hand side whose covariance is the precision of the coefficients, H x = Z'W y + prior + noise, has a draw as its
solution (Papandreou & Yuille, NIPS 23, 2010; Gilavert, Moussaoui & Idier 2015). Factor 0 is eliminated level by level,
and conjugate gradients solve the Schur complement S of the others and the fixed effects, which is never formed: a step
is one pass over the entries. The preconditioner M is the diagonal blocks of what S was before the elimination, and of
S itself for the fixed effects.

The solve stops at a residual r with r'M⁻¹r ≤ tolerance². The error e = S⁻¹r then has e'Se = r'S⁻¹r ≤ tolerance²/λ,
λ the least eigenvalue of M⁻¹S, and e'Se is the squared distance from the exact draw in units of the distribution
itself: no linear combination of the coefficients is off by more than tolerance/√λ of its own standard deviation. At a
tolerance of 10⁻⁵ and λ = 10⁻⁴, where some hundreds of steps are needed, that is 10⁻³.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.crossed.layout import Codes, Crossed
from bayou.engines.crossed.state import CrossState, combine_levels
from bayou.engines.crossed.system import (
    Solver,
    factorise_blocks,
    multiply,
    others_at,
    precondition,
    solve_block,
    spread,
    weight_of,
)
from bayou.jit import kernel
from bayou.linalg.small import solve_lower_transposed

STEPS = 2_000


@kernel(inner=True)
def _right_hand_side(
    target: Crossed, state: CrossState, solver: Solver, codes: Codes, w: float, rng: np.random.Generator
) -> None:
    """H and g: weighted sums of the response, and noise with the precision as its covariance."""
    K, P, S = target.levels.shape[0], state.beta.shape[0], state.sigma.shape[0]
    free = P - target.beta_codes.shape[0]
    h, g, z, blocks = solver.h, solver.g, state.vectors[1], target.blocks
    for k in range(K):
        first = target.at_b[k]
        for i in range(target.at_b[k + 1] - first):
            t = state.a[first + i]
            for c in range(free, P):
                t -= state.B[target.at_B[k] + i * P + c] * state.beta[c]
            h[first + i] = w * t
    for c in range(P):
        t = state.d[c]
        for e in range(free, P):
            t -= state.D[c, e] * state.beta[e]
        g[c] = w * t + target.linear[c]
    for e in range(P):
        t = rng.standard_normal()
        for c in range(P):
            g[c] += solver.prior[c, e] * t
    for s in range(S):
        root = math.sqrt(w if S == 1 else state.by_sigma[s])
        for e in range(P):
            t = root * rng.standard_normal()
            for c in range(P):
                g[c] += solver.within[s, c, e] * t
    for r in range(blocks.size.shape[0]):
        # Q = L'⁻¹ L⁻¹
        k, p = blocks.grouping[r], blocks.size[r]
        for j in range(target.levels[k]):
            for i in range(p):
                z[i] = rng.standard_normal()
            solve_lower_transposed(state.L[r], z, p)
            at = target.at_b[k] + j * target.sizes[k] + blocks.start[r]
            for i in range(p):
                h[at + i] += z[i]
    width = target.at_z[K - 1] + target.sizes[K - 1]
    ones, p, plain = target.Z.shape[0] == 0, target.sizes[0], solver.X.shape[0] == 0
    constant = target.W.shape[0] == 0 and not target.by_level
    root = math.sqrt(w)
    for j in range(target.levels[0]):
        total = 0.0
        for e in range(target.start[j], target.start[j + 1]):
            t = root if constant else math.sqrt(weight_of(target, state, codes, e, w))
            t *= rng.standard_normal()
            total += t
            if not ones:
                for i in range(p):
                    h[j * p + i] += t * target.Z[e * width + i]
            spread(target, codes, h, e, width, t)
            if not plain:
                for c in range(P):
                    g[c] += t * solver.X[e * P + c]
        if ones:
            h[j] += total
        if plain:
            for c in range(P):
                g[c] += total


@kernel(inner=True)
def _eliminate(target: Crossed, state: CrossState, solver: Solver, codes: Codes, w: float, v: Array) -> None:
    """V <- right-hand side of S; factor 0's part of h is left solved."""
    K, P, p = target.levels.shape[0], state.beta.shape[0], target.sizes[0]
    free, end = P - target.beta_codes.shape[0], target.at_b[K]
    width = target.at_z[K - 1] + target.sizes[K - 1]
    ones = target.Z.shape[0] == 0
    h = solver.h
    for i in range(target.at_b[1], end):
        v[i] = h[i]
    for c in range(free):
        v[end + c] = solver.g[c]
    for j in range(target.levels[0]):
        solve_block(target, solver, 0, j, h, j * p)
        for i in range(p):
            base = target.at_B[0] + (j * p + i) * P
            for c in range(free):
                v[end + c] -= w * state.B[base + c] * h[j * p + i]
        for e in range(target.start[j], target.start[j + 1]):
            t = 0.0
            for i in range(p):
                t -= h[j * p + i] * (1.0 if ones else target.Z[e * width + i])
            spread(target, codes, v, e, width, weight_of(target, state, codes, e, w) * t)


@kernel(inner=True)
def _substitute(target: Crossed, state: CrossState, solver: Solver, codes: Codes, w: float) -> None:
    """B of factor 0 given the rest, which is in x."""
    K, P, p = target.levels.shape[0], state.beta.shape[0], target.sizes[0]
    free, end = P - target.beta_codes.shape[0], target.at_b[K]
    width = target.at_z[K - 1] + target.sizes[K - 1]
    ones = target.Z.shape[0] == 0
    u, x = state.vectors[0], solver.x
    for j in range(target.levels[0]):
        for i in range(p):
            u[i] = 0.0
            base = target.at_B[0] + (j * p + i) * P
            for c in range(free):
                u[i] += w * state.B[base + c] * x[end + c]
        for e in range(target.start[j], target.start[j + 1]):
            t = weight_of(target, state, codes, e, w) * others_at(target, codes, x, e, width)
            for i in range(p):
                u[i] += t * (1.0 if ones else target.Z[e * width + i])
        solve_block(target, solver, 0, j, u, 0)
        for i in range(p):
            state.b[j * p + i] = solver.h[j * p + i] - u[i]


@kernel(inner=True)
def draw_jointly(target: Crossed, state: CrossState, solver: Solver, codes: Codes, rng: np.random.Generator) -> bool:
    """Draw all group coefficients and the fixed effects of Gaussian prior, given covariances and sigma.

    The search begins at the state as it is. False if a matrix is not definite, or the steps ran out.
    """
    w = combine_levels(target, state)
    if not factorise_blocks(target, state, solver, w):
        return False
    K = target.levels.shape[0]
    first, end = target.at_b[1], target.at_b[K]
    last = end + state.beta.shape[0] - target.beta_codes.shape[0]
    x, r, z, d, image = solver.x, solver.residual, solver.turned, solver.direction, solver.image
    _right_hand_side(target, state, solver, codes, w, rng)
    _eliminate(target, state, solver, codes, w, r)
    for i in range(first, end):
        x[i] = state.b[i]
    for i in range(end, last):
        x[i] = state.beta[i - end]
    multiply(target, state, solver, codes, w, x, image)
    for i in range(first, last):
        r[i] -= image[i]
    size, reached = 0.0, False
    solver.steps[0] += 1.0
    for step in range(STEPS):
        before = size
        for i in range(first, last):
            z[i] = r[i]
        precondition(target, state, solver, z)
        size = 0.0
        for i in range(first, last):
            size += r[i] * z[i]
        if size <= solver.tolerance * solver.tolerance:
            reached = True
            break
        if not size < math.inf:
            break
        for i in range(first, last):
            d[i] = z[i] + (size / before * d[i] if step > 0 else 0.0)
        multiply(target, state, solver, codes, w, d, image)
        solver.steps[1] += 1.0
        bend = 0.0
        for i in range(first, last):
            bend += d[i] * image[i]
        if not bend > 0.0:
            break
        for i in range(first, last):
            x[i] += size / bend * d[i]
            r[i] -= size / bend * image[i]
    if not reached:
        return False
    _substitute(target, state, solver, codes, w)
    for i in range(first, end):
        state.b[i] = x[i]
    for i in range(end, last):
        state.beta[i - end] = x[i]
    return True
