"""Full conditionals of the coefficients: all group coefficients, all fixed effects, or what no Schur complement takes.

Centred samplers hold each group's own line beta + b_j; uncentred ones hold b_j.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.centring import move_centres, move_nested
from bayou.engines.lmm.state import State, Target
from bayou.jit import kernel
from bayou.linalg.schur import trailing_marginal
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed
from bayou.priors.table import prior_log_density


@kernel(inner=True)
def draw_coefficients_of_any_prior(target: Target, state: State, rng: np.random.Generator) -> int:
    """Slice updates of the trailing fixed effects with non-Gaussian priors, all else integrated out."""
    known = target.beta_codes.shape[0]
    if known == 0:
        return 0
    P, h = state.work[0], state.vectors[0]
    trailing_marginal(state.factor, known, P, h)
    first = state.rest.shape[0] - known
    for _ in range(2):
        for i in range(known):
            t = h[i]
            own = target.border.precision.shape[0] - known + i
            m = P[i, i] - target.ridged.precision[own, own] + target.border.precision[own, own]
            for k in range(known):
                if k != i:
                    t -= P[i, k] * state.rest[first + k]
            x = state.rest[first + i]
            state.rest[first + i] = slice_coefficient(
                x, t, m, P[i, i], target.beta_codes[i], target.beta_parameters[i], rng
            )
    return known


@kernel(inner=True)
def slice_coefficient(
    x: float, h: float, m: float, precision: float, code: int, parameters: Array, rng: np.random.Generator
) -> float:
    """Slice update of x with density exp(h x − m x²/2) p(x), which has about this precision."""
    a, b, c = parameters[0], parameters[1], parameters[2]
    level = h * x - 0.5 * m * x * x + prior_log_density(code, a, b, c, x) - rng.standard_exponential()
    width = 3.0 / math.sqrt(precision)
    low = x - width * rng.random()
    high = low + width
    for _ in range(30):
        if not h * low - 0.5 * m * low * low + prior_log_density(code, a, b, c, low) > level:
            break
        low -= width
    for _ in range(30):
        if not h * high - 0.5 * m * high * high + prior_log_density(code, a, b, c, high) > level:
            break
        high += width
    while True:
        t = low + (high - low) * rng.random()
        if h * t - 0.5 * m * t * t + prior_log_density(code, a, b, c, t) > level:
            return t
        if t < x:
            low = t
        else:
            high = t
        if high - low < 1e-14 * (abs(x) + width):
            return x


@kernel(inner=True)
def draw_groups(target: Target, state: State, w: float, rng: np.random.Generator) -> None:
    """B of every factor in turn, given everything else."""
    arrow, border = target.arrow, target.border
    J, p = state.b.shape
    L, v = state.work[0], state.vectors[0]
    for j in range(J):
        first = arrow.start[j]
        m = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            t = arrow.a[j, i]
            for c in range(m):
                t -= arrow.C[base + i * m + c] * state.rest[arrow.touch[first + c]]
            v[i] = w * t
            for k in range(i + 1):
                L[i, k] = w * arrow.A[j, i, k] + state.Q[0, i, k]
        cholesky(L, L, p)
        solve_lower(L, v, p)
        for i in range(p):
            v[i] += rng.standard_normal()
        solve_lower_transposed(L, v, p)
        for i in range(p):
            state.b[j, i] = v[i]
    for f in range(border.start.shape[0]):
        q = border.size[f]
        cross_products(target, state, w)
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for i in range(q):
                v[i] = state.residual[at + i]
                for k in range(q):
                    D = arrow.D[at + i, at + k] if k <= i else arrow.D[at + k, at + i]
                    v[i] += w * D * state.rest[at + k]
                for k in range(i + 1):
                    L[i, k] = w * arrow.D[at + i, at + k] + state.Q[f + 1, i, k]
            cholesky(L, L, q)
            solve_lower(L, v, q)
            for i in range(q):
                v[i] += rng.standard_normal()
            solve_lower_transposed(L, v, q)
            for i in range(q):
                state.rest[at + i] = v[i]


@kernel(inner=True)
def cross_products(target: Target, state: State, w: float) -> None:
    """Residual <- w (d − D rest − Σ_j C_j'b_j): the rest's columns times the current residuals."""
    arrow, out = target.arrow, state.residual
    J, p = state.b.shape
    R = out.shape[0]
    for i in range(R):
        out[i] = 0.0
    for i in range(R):
        t = arrow.d[i] - arrow.D[i, i] * state.rest[i]
        for k in range(i):
            t -= arrow.D[i, k] * state.rest[k]
            out[k] -= w * arrow.D[i, k] * state.rest[i]
        out[i] += w * t
    for j in range(J):
        first = arrow.start[j]
        m = arrow.start[j + 1] - first
        base = p * first
        for k in range(p):
            for c in range(m):
                out[arrow.touch[first + c]] -= w * arrow.C[base + k * m + c] * state.b[j, k]


@kernel(inner=True)
def draw_fixed(target: Target, state: State, w: float, skip_covered: bool, rng: np.random.Generator) -> None:
    """Beta | b (all of it, or only what no group coefficient is centred on)."""
    arrow, border = target.arrow, target.border
    P = border.precision.shape[0]
    if P == 0:
        return
    cross_products(target, state, w)
    L, v = state.work[0], state.vectors[0]
    use = state.vectors[1]
    n = 0
    for i in range(P):
        if not (skip_covered and target.moves.covered[i] == 1):
            use[n] = i
            n += 1
    at = border.fixed
    # a change of beta from its current value: precision w X'X + Psi, linear term from the residuals
    for r in range(n):
        i = int(use[r])
        t = state.residual[at + i] + border.linear[i]
        for k in range(P):
            t -= border.precision[i, k] * state.rest[at + k]
        v[r] = t
        for c in range(r + 1):
            k = int(use[c])
            L[r, c] = w * arrow.D[at + i, at + k] + border.precision[i, k]
    if not cholesky(L, L, n):
        return
    solve_lower(L, v, n)
    for r in range(n):
        v[r] += rng.standard_normal()
    solve_lower_transposed(L, v, n)
    # awkward priors were taken as flat above: accept or reject with their ratio
    known = target.beta_codes.shape[0]
    ratio = 0.0
    for r in range(n):
        i = int(use[r])
        a = i - (P - known)
        x = state.rest[at + i]
        if a >= 0:
            a0, a1, a2 = target.beta_parameters[a, 0], target.beta_parameters[a, 1], target.beta_parameters[a, 2]
            ratio += prior_log_density(target.beta_codes[a], a0, a1, a2, x + v[r])
            ratio -= prior_log_density(target.beta_codes[a], a0, a1, a2, x)
    if known > 0 and not -rng.standard_exponential() < ratio:
        return
    for r in range(n):
        state.rest[at + int(use[r])] += v[r]


@kernel(inner=True)
def draw_centres(target: Target, state: State, rng: np.random.Generator) -> None:
    """Draw fixed effects, and the coarser of nested factors, with each group's own line held."""
    border, moves = target.border, target.moves
    beta = state.rest[border.fixed :]
    own = state.b.reshape(state.b.size)
    for f in range(target.levels.shape[0]):
        J, p = target.levels[f], target.sizes[f]
        if f == 0:
            move_centres(moves, f, J, p, own, 0, state.Q, border, beta, state.work, state.vectors, rng)
        else:
            at = border.start[f - 1]
            move_centres(moves, f, J, p, state.rest, at, state.Q, border, beta, state.work, state.vectors, rng)
    for pair in range(moves.child.shape[0]):
        f, g = moves.child[pair], moves.parent[pair]
        child, at = own, 0
        if f > 0:
            child, at = state.rest, border.start[f - 1]
        # the factor with most coefficients comes first, so that a parent there is not the usual case
        parent, above = own, 0
        if g > 0:
            parent, above = state.rest, border.start[g - 1]
        move_nested(
            moves,
            pair,
            child,
            at,
            target.sizes[f],
            target.levels[f],
            parent,
            above,
            target.sizes[g],
            target.levels[g],
            state.Q,
            state.sums,
            rng,
        )
