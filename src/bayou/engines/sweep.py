"""One scan of the Gibbs samplers for Gaussian mixed models, on sufficient statistics.

Locations (fixed effects beta and group coefficients b) are drawn in one of four ways:

- UNCENTERED: b | beta, then beta | b;
- CENTERED: b | beta, then beta | (beta + b), that is with each group's own line held (Hoff 2009, ch. 11);
- JOINT: beta and all of b at once, beta first with b integrated out (the slides' marginal update);

then every covariance block given b, optionally once more with the whitened coefficients held, then
sigma. Nothing here visits a row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.effects.iid import BlockTable
from bayou.engines.centring import Centring, move_centres, move_nested
from bayou.engines.moves import draw_block, draw_scale, precision_from_factors, propose_factor, slice_factor
from bayou.jit import borrow, kernel
from bayou.linalg.schur import Arrow, Border, Factor, draw, factorise, trailing_marginal
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed
from bayou.priors.table import prior_log_density
from bayou.sufficient import Cells, combine, residual_squares

UNCENTERED, CENTERED, JOINT = 0, 1, 2
SLICES = 0.1  # share of whitened moves made element by element
WHITENED_ELEMENTS = 6  # elements of L visited a scan: all of a 3 x 3 block, a random part of larger ones


class Target(NamedTuple):
    """A Gaussian mixed model as the kernels see it: sums, layout and priors."""

    cells: Cells
    arrow: Arrow
    border: Border
    blocks: BlockTable
    levels: Integers  # (K,) levels of each factor, eliminated one first
    sizes: Integers  # (K,) coefficients of each factor
    sigma_code: int
    sigma_parameters: Array
    sigma_known: bool
    beta_codes: Integers  # (known,) priors of the trailing fixed effects that are not Gaussian
    beta_parameters: Array  # (known, 3)
    moves: Centring


class State(NamedTuple):
    """What one chain carries from scan to scan, and its scratch."""

    rest: Array  # (R,) coefficients of the further factors, then fixed effects
    b: Array  # (J, p) coefficients of the eliminated factor
    L: Array  # (B, p, p)
    Q: Array  # (K, p, p)
    sigma: Array  # (S,)
    factor: Factor
    residual: Array  # (R,) weighted cross-products of the rest with the residuals
    work: Array  # (7, m, m)
    vectors: Array  # (6, m)
    sums: Array  # room for the levels of any factor
    by_sigma: Array  # (2, S) for weights and sums of squares


def new_state(target: Target, factor: Factor, L: Array, sigma: Array) -> State:
    """Allocate the state of one chain at covariance factors L and residual sds sigma."""
    J, p = target.arrow.a.shape
    R = target.arrow.d.shape[0]
    largest = max([1, p, L.shape[1], *target.sizes])  # a factor of several blocks is wider than any of them
    m = max(largest * (largest + 1) // 2, target.border.precision.shape[0], len(target.moves.at), 1)
    K = max(len(target.levels), 1)
    return State(
        np.zeros(R),
        np.zeros((J, p)),
        L.copy(),
        np.zeros((K, largest, largest)),
        sigma.copy(),
        factor,
        np.zeros(R),
        np.zeros((7, m, m)),
        np.zeros((6, m)),
        np.zeros(int(target.levels.max()) if len(target.levels) else 0),
        np.zeros((2, len(sigma))),
    )


@kernel(inner=True)
def likelihood_weight(target: Target, state: State) -> float:
    """Weight of the sums in ``target.arrow``: 1/sigma², or 1 after combining several levels."""
    sigma, w = state.sigma, state.by_sigma[0]
    if sigma.shape[0] == 1:
        return 1.0 / (sigma[0] * sigma[0])
    for s in range(sigma.shape[0]):
        w[s] = 1.0 / (sigma[s] * sigma[s])
    combine(target.cells, target.arrow.start, w, target.arrow)
    return 1.0


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
            for k in range(known):
                if k != i:
                    t -= P[i, k] * state.rest[first + k]
            x = state.rest[first + i]
            state.rest[first + i] = _slice_coefficient(
                x, t, P[i, i], target.beta_codes[i], target.beta_parameters[i], rng
            )
    return known


@kernel(inner=True)
def _slice_coefficient(x: float, h: float, m: float, code: int, parameters: Array, rng: np.random.Generator) -> float:
    """Slice update of x with density exp(h x − m x²/2) p(x)."""
    a, b, c = parameters[0], parameters[1], parameters[2]
    level = h * x - 0.5 * m * x * x + prior_log_density(code, a, b, c, x) - rng.standard_exponential()
    width = 3.0 / math.sqrt(m)
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
    cholesky(L, L, n)
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


@kernel(inner=True)
def scatter_of(target: Target, state: State, r: int, out: Array) -> None:
    """Out <- Σ_j b_j b_j' of block r."""
    blocks = target.blocks
    f, s, p = blocks.grouping[r], blocks.start[r], blocks.size[r]
    for i in range(p):
        for k in range(i + 1):
            t = 0.0
            if f == 0:
                for j in range(state.b.shape[0]):
                    t += state.b[j, s + i] * state.b[j, s + k]
            else:
                at, q = target.border.start[f - 1] + s, target.sizes[f]
                for j in range(target.levels[f]):
                    t += state.rest[at + j * q + i] * state.rest[at + j * q + k]
            out[i, k] = t
            out[k, i] = t


@kernel(inner=True)
def draw_whitened(target: Target, state: State, w: float, rng: np.random.Generator) -> None:
    """Each factor L with z_j = L⁻¹ b_j held: the likelihood is quadratic in the elements of L."""
    blocks, arrow = target.blocks, target.arrow
    J0, p0 = state.b.shape
    g, z = state.vectors[0], state.vectors[1]
    e = state.vectors[2]
    M, before, zeros = state.work[0], state.work[1], state.work[2]
    for r in range(blocks.size.shape[0]):
        f, s, p = blocks.grouping[r], blocks.start[r], blocks.size[r]
        q = p * (p + 1) // 2
        L = state.L[r]
        for i in range(p):
            for k in range(i + 1):
                before[i, k] = L[i, k]
        for i in range(q):
            g[i] = 0.0
            for k in range(q):
                M[i, k] = 0.0
        if f > 0:
            cross_products(target, state, w)
        size, first = target.sizes[f], 0
        if f > 0:
            first = target.border.start[f - 1]
        for j in range(target.levels[f]):
            at = first + j * size + s
            for i in range(p):
                if f == 0:
                    z[i] = state.b[j, s + i]
                    t = arrow.a[j, s + i]
                    for k in range(p0):
                        t -= arrow.A[j, s + i, k] * state.b[j, k]
                    m = arrow.start[j + 1] - arrow.start[j]
                    base = p0 * arrow.start[j] + (s + i) * m
                    for c in range(m):
                        t -= arrow.C[base + c] * state.rest[arrow.touch[arrow.start[j] + c]]
                    e[i] = w * t
                else:
                    z[i] = state.rest[at + i]
                    e[i] = state.residual[at + i]
            solve_lower(L, z, p)
            a = 0
            for i in range(p):
                for k in range(i + 1):
                    g[a] += e[i] * z[k]
                    c = 0
                    for i2 in range(i + 1):
                        A = arrow.A[j, s + i, s + i2] if f == 0 else arrow.D[at + i, at + i2]
                        A *= w * z[k]
                        for k2 in range(i2 + 1):
                            if c <= a:
                                M[a, c] += A * z[k2]
                            c += 1
                    a += 1
        for a in range(q):
            for c in range(a):
                M[c, a] = M[a, c]
        # one number is best sliced; of several a joint proposal is mostly accepted, and a prior that it
        # misses is met by slices now and then
        sliced = p == 1 or rng.random() < SLICES
        if not sliced:
            sliced = not propose_factor(blocks, r, L, g, M, zeros, state.work[3], state.work[4], z, rng)
        if sliced:
            slice_factor(blocks, r, L, 0.0, zeros, g, M, WHITENED_ELEMENTS, state.work[3], rng)
        for j in range(target.levels[f]):
            at = first + j * size + s
            for i in range(p):
                z[i] = state.b[j, s + i] if f == 0 else state.rest[at + i]
            solve_lower(before, z, p)
            for i in range(p):
                t = 0.0
                for k in range(i + 1):
                    t += L[i, k] * z[k]
                if f == 0:
                    state.b[j, s + i] = t
                else:
                    state.rest[at + i] = t


@kernel(inner=True)
def draw_sigma(target: Target, state: State, squares: Array, rng: np.random.Generator) -> None:
    """Each residual sd given its sum of squares."""
    residual_squares(target.cells, target.arrow, state.rest, state.b, squares)
    for s in range(state.sigma.shape[0]):
        # a sum of squares that cancelled to nothing must not become a negative scale
        ss = max(squares[s], 1e-14 * target.cells.squares[s])
        state.sigma[s] = draw_scale(
            state.sigma[s], target.cells.rows[s], ss, target.sigma_code, target.sigma_parameters, rng
        )


@kernel(entry=True)
def run_scans(
    target: Target,
    state: State,
    location: int,
    whitened: bool,
    thin: int,
    beta: Array,
    b: Array,
    L: Array,
    sigma: Array,
    rng: np.random.Generator,
) -> int:
    """Fill ``beta`` (draws, P), ``b`` (draws, all coefficients; or none), ``L`` (draws, B, p, p), ``sigma``.

    Returns the number of draws made: fewer than asked only if a matrix lost its definiteness.
    """
    target, state = borrow(target), borrow(state)
    blocks = target.blocks
    squares = state.by_sigma[1]
    for i in range(beta.shape[0] * thin):
        if not precision_from_factors(blocks, state.L, state.Q, state.work[4:]):
            return i // thin
        w = likelihood_weight(target, state)
        if location == JOINT:
            ok, _, _ = factorise(target.arrow, target.border, w, state.Q, state.factor)
            if not ok:
                return i // thin
            known = draw_coefficients_of_any_prior(target, state, rng)
            draw(target.arrow, state.factor, state.rest, state.b, known, rng)
        else:
            draw_groups(target, state, w, rng)
            draw_fixed(target, state, w, location == CENTERED, rng)
            if location == CENTERED:
                draw_centres(target, state, rng)
        for r in range(blocks.size.shape[0]):
            scatter_of(target, state, r, state.work[6])
            J = float(target.levels[blocks.grouping[r]])
            if not draw_block(blocks, r, J, state.work[6], state.L[r], state.work[3:6], state.work[2], rng):
                return i // thin
        if whitened:
            draw_whitened(target, state, w, rng)
        if not target.sigma_known:
            draw_sigma(target, state, squares, rng)
        if (i + 1) % thin == 0:
            record(target, state, i // thin, beta, b, L, sigma)
    return beta.shape[0]


@kernel(inner=True)
def record(target: Target, state: State, i: int, beta: Array, b: Array, L: Array, sigma: Array) -> None:
    """Write the state as draw i."""
    at = target.border.fixed
    J, p = state.b.shape
    for k in range(beta.shape[1]):
        beta[i, k] = state.rest[at + k]
    for r in range(L.shape[1]):
        for k in range(L.shape[2]):
            for c in range(k + 1):
                L[i, r, k, c] = state.L[r, k, c]
    for s in range(sigma.shape[1]):
        sigma[i, s] = state.sigma[s]
    if b.shape[1] > 0:
        c = 0
        for j in range(J):
            for k in range(p):
                b[i, c] = state.b[j, k]
                c += 1
        for k in range(at):
            b[i, c] = state.rest[k]
            c += 1
