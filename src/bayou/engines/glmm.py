"""One scan of Metropolis-within-Gibbs for generalized linear mixed models.

In turn: fixed effects with each group's own coefficients held (translations, free of the rows); every
covariance block given the group coefficients; the same blocks with the whitened coefficients held, as
scalings b -> D b and shears b_i -> b_i + d b_k that move Sigma along (generalised Gibbs, Liu & Sabatti
2000); every group's coefficients; all fixed effects given them; the dispersion.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.effects.iid import BlockTable, log_prior
from bayou.engines.centring import Centring, move_centres, move_nested
from bayou.engines.moves import draw_block, draw_scale, precision_from_factors
from bayou.engines.proposals import (
    Rows,
    Scratch,
    fixed_laplace,
    fixed_mode,
    group_laplace,
    group_mode,
    group_random_walk,
)
from bayou.families.codes import GAUSSIAN_IDENTITY, GAUSSIAN_LOG
from bayou.families.rows import row_dispersion, row_log_density, row_means
from bayou.jit import borrow, kernel
from bayou.linalg.schur import Border
from bayou.linalg.small import cholesky, fill, invert_lower, product_with_transpose
from bayou.priors.table import prior_log_density

REFRESH = 64  # scans after which eta is computed afresh, against the drift of small increments
EVERY = 4  # scans between updates of fixed effects that all have a random counterpart
WALK = 0.05  # share of random-walk steps among Laplace proposals: frees a group from a far tail
BEST_ONE, BEST_MANY = 0.44, 0.28  # acceptance rates aimed at (Roberts & Rosenthal 2001)


class Target(NamedTuple):
    """A generalized linear mixed model as the kernels see it."""

    rows: Rows
    border: Border
    blocks: BlockTable
    sigma: Integers  # (n,) level of the residual sd, master order
    sigma_rows: Array  # (S,) how many rows have it
    prior_weights: Array  # (K, n)
    dispersion_code: int
    dispersion_parameters: Array
    dispersion_known: bool
    walk_tuned: bool
    beta_codes: Integers
    beta_parameters: Array
    moves: Centring


class State(NamedTuple):
    """What one chain carries from scan to scan, and its scratch."""

    beta: Array  # (P,)
    b: Array  # all coefficients, factor by factor, level by level
    eta: Array  # (n,)
    L: Array  # (B, p, p)
    Q: Array  # (K, p, p)
    Sigma: Array  # (K, p, p) lower factors of the whole covariances
    dispersion: Array  # (S,)
    weights: Array  # (K, n) prior weights, divided by sigma² if the response is Gaussian
    likelihood: Array  # levels of all factors: log likelihood of their rows, or NaN
    total: Array  # (1,)
    tune: Array  # (B, p + 1) log step lengths of scalings, then of shears
    walk: Array  # (K,) log scale of the random walk
    step: Array  # (1,) log step length of the dispersion
    accepted: Array  # levels of all factors
    tries: Array  # (K,) scans whose proposals `accepted` counts
    scratch: Scratch
    Hx: Array  # (P, P)
    vectors: Array  # (8, m)
    work: Array  # (7, m, m)
    counter: Integers  # (1,) scans
    sums: Array  # room for the levels of any factor


@kernel(inner=True)
def forget(state: State) -> None:
    """Drop the kept log likelihoods by level: eta has moved."""
    for j in range(state.likelihood.shape[0]):
        state.likelihood[j] = math.nan


@kernel
def is_gaussian(code: int) -> bool:
    """Whether the rows' weights carry the residual variance."""
    return code == GAUSSIAN_IDENTITY or code == GAUSSIAN_LOG


@kernel(inner=True)
def row_dispersion_of(target: Target, state: State) -> float:
    """Return the dispersion for the row kernels: sigma is in the weights already."""
    if is_gaussian(target.rows.code) or state.dispersion.shape[0] == 0:
        return 1.0
    return state.dispersion[0]


@kernel(inner=True)
def set_weights(target: Target, state: State) -> None:
    """Weights of the rows from the current residual sds."""
    K, n = target.prior_weights.shape
    for f in range(K):
        for r in range(n):
            s = state.dispersion[target.sigma[target.rows.master[f, r]]]
            state.weights[f, r] = target.prior_weights[f, r] / (s * s)


@kernel(inner=True)
def set_eta(target: Target, state: State) -> None:
    """Eta from beta and b, and the log likelihoods from eta."""
    rows = target.rows
    n, P = rows.X.shape
    for r in range(n):
        t = rows.offset[r]
        for i in range(P):
            t += rows.X[r, i] * state.beta[i]
        state.eta[r] = t
    for f in range(rows.levels.shape[0]):
        p = rows.sizes[f]
        for j in range(rows.levels[f]):
            base = rows.at_b[f] + j * p
            for r in range(rows.start[rows.first[f] + j], rows.start[rows.first[f] + j + 1]):
                t = 0.0
                for i in range(p):
                    t += rows.Z[rows.at_Z[f] + r * p + i] * state.b[base + i]
                state.eta[rows.master[f, r]] += t
    forget(state)
    state.total[0] = row_log_density(
        rows.code, rows.y[0], rows.trials[0], state.weights[0], state.eta, row_dispersion_of(target, state),
        state.scratch.work,
    )  # fmt: skip


@kernel(inner=True)
def move_translations(target: Target, state: State, rng: np.random.Generator) -> None:
    """Draw fixed effects, and the coarser of nested factors, with each group's own line held."""
    rows, moves = target.rows, target.moves
    for f in range(rows.levels.shape[0]):
        J, p = rows.levels[f], rows.sizes[f]
        at = rows.at_b[f]
        move_centres(moves, f, J, p, state.b, at, state.Q, target.border, state.beta, state.work, state.vectors, rng)
    for pair in range(moves.child.shape[0]):
        f, g = moves.child[pair], moves.parent[pair]
        move_nested(
            moves,
            pair,
            state.b,
            rows.at_b[f],
            rows.sizes[f],
            rows.levels[f],
            state.b,
            rows.at_b[g],
            rows.sizes[g],
            rows.levels[g],
            state.Q,
            state.sums,
            rng,
        )


@kernel(inner=True)
def move_covariances(target: Target, state: State, rng: np.random.Generator) -> bool:
    """Every block given the group coefficients."""
    rows, blocks = target.rows, target.blocks
    scatter = state.work[6]
    for r in range(blocks.size.shape[0]):
        f, s, q = blocks.grouping[r], blocks.start[r], blocks.size[r]
        p, J = rows.sizes[f], rows.levels[f]
        for i in range(q):
            for k in range(i + 1):
                t = 0.0
                at = rows.at_b[f] + s
                for j in range(J):
                    t += state.b[at + j * p + i] * state.b[at + j * p + k]
                scatter[i, k] = t
                scatter[k, i] = t
        fill(state.work[2], 0.0)
        if not draw_block(blocks, r, float(J), scatter, state.L[r], state.work[3:6], state.work[2], rng):
            return False
    return True


@kernel(inner=True)
def _try_linear(
    target: Target,
    state: State,
    f: int,
    into: int,
    source: int,
    factor: float,
    log_ratio: float,
    rng: np.random.Generator,
) -> bool:
    """Propose b[into] += factor b[source] for all levels of factor f; accept on likelihood and ``log_ratio``."""
    rows = target.rows
    n = rows.X.shape[0]
    p = rows.sizes[f]
    there = state.scratch.eta[:n]
    for j in range(rows.levels[f]):
        move = factor * state.b[rows.at_b[f] + j * p + source]
        for r in range(rows.start[rows.first[f] + j], rows.start[rows.first[f] + j + 1]):
            m = rows.master[f, r]
            there[m] = state.eta[m] + rows.Z[rows.at_Z[f] + r * p + into] * move
    fresh = row_log_density(
        rows.code, rows.y[0], rows.trials[0], state.weights[0], there, row_dispersion_of(target, state),
        state.scratch.work,
    )  # fmt: skip
    if not -rng.standard_exponential() < fresh - state.total[0] + log_ratio:
        return False
    for r in range(n):
        state.eta[r] = there[r]
    state.total[0] = fresh
    forget(state)
    for j in range(rows.levels[f]):
        base = rows.at_b[f] + j * p
        state.b[base + into] += factor * state.b[base + source]
    return True


@kernel(inner=True)
def move_whitened(target: Target, state: State, adapting: bool, rng: np.random.Generator) -> None:
    """Scalings of every coefficient of every block, and one shear in blocks of two or more."""
    blocks = target.blocks
    new, inverse, product = state.work[0], state.work[1], state.work[2]
    gain = 1.0 / (1.0 + state.counter[0]) ** 0.6
    if math.isnan(state.total[0]):
        rows = target.rows
        state.total[0] = row_log_density(
            rows.code, rows.y[0], rows.trials[0], state.weights[0], state.eta, row_dispersion_of(target, state),
            state.scratch.work,
        )  # fmt: skip
    for r in range(blocks.size.shape[0]):
        f, s, p = blocks.grouping[r], blocks.start[r], blocks.size[r]
        L = state.L[r]
        before = log_prior(blocks, r, L, inverse)
        for c in range(p):
            move = math.exp(state.tune[r, c]) * rng.standard_normal()
            factor = math.exp(move)
            for i in range(p):
                for k in range(i + 1):
                    new[i, k] = L[i, k] * (factor if i == c else 1.0)
            after = log_prior(blocks, r, new, inverse)
            ok = after > -math.inf and _try_linear(
                target, state, f, s + c, s + c, math.expm1(move), after - before + (p + 1.0) * move, rng
            )
            if ok:
                before = after
                for k in range(c + 1):
                    L[c, k] = new[c, k]
            if adapting:
                state.tune[r, c] += gain * ((1.0 if ok else 0.0) - BEST_ONE)
        if p > 1:
            c = int(rng.random() * p)
            e = int(rng.random() * (p - 1))
            if e >= c:
                e += 1
            # in units that the shear does not change: sd of the source, sd of the target given the others
            invert_lower(L, inverse, p)
            precision, variance = 0.0, 0.0
            for k in range(p):
                if k >= c:
                    precision += inverse[k, c] * inverse[k, c]
                if k <= e:
                    variance += L[e, k] * L[e, k]
            move = math.exp(state.tune[r, p]) * rng.standard_normal() / math.sqrt(precision * variance)
            product_with_transpose(L, product, p)
            for k in range(p):
                product[c, k] += move * product[e, k]
            for k in range(p):
                product[k, c] += move * product[k, e]
            ok = cholesky(product, new, p)
            if ok:
                after = log_prior(blocks, r, new, inverse)
                ok = after > -math.inf and _try_linear(target, state, f, s + c, s + e, move, after - before, rng)
            if ok:
                for i in range(p):
                    for k in range(i + 1):
                        L[i, k] = new[i, k]
            if adapting:
                state.tune[r, p] += gain * ((1.0 if ok else 0.0) - BEST_ONE)


@kernel(inner=True)
def set_covariances(target: Target, state: State) -> bool:
    """Q and the factors of Sigma of all factors from their blocks."""
    blocks = target.blocks
    if not precision_from_factors(blocks, state.L, state.Q, state.work[3:]):
        return False
    for f in range(state.Sigma.shape[0]):
        fill(state.Sigma[f], 0.0)
    for r in range(blocks.size.shape[0]):
        f, s = blocks.grouping[r], blocks.start[r]
        for i in range(blocks.size[r]):
            for k in range(i + 1):
                state.Sigma[f, s + i, s + k] = state.L[r, i, k]
    return True


@kernel(inner=True)
def move_groups(target: Target, state: State, laplace: bool, adapting: bool, rng: np.random.Generator) -> None:
    """Every level of every factor in turn."""
    rows = target.rows
    dispersion = row_dispersion_of(target, state)
    number = 0
    for f in range(rows.levels.shape[0]):
        walking = not laplace or rng.random() < WALK
        scale = math.exp(state.walk[f])
        count = 0
        counted = walking == (not laplace)
        if counted:
            state.tries[f] += 1.0
        for j in range(rows.levels[f]):
            if walking:
                known = state.likelihood[number]
                ok, value = group_random_walk(
                    rows, state.weights, dispersion, f, j, scale, state.Sigma[f], state.Q[f], state.b, state.eta,
                    known, state.scratch, rng,
                )  # fmt: skip
                state.likelihood[number] = value
            else:
                ok, _ = group_laplace(
                    rows, state.weights, dispersion, f, j, state.Q[f], state.b, state.eta, state.scratch, rng
                )
                state.likelihood[number] = math.nan
            if ok:
                count += 1
                # other factors' levels share these rows
                state.total[0] = math.nan
            if ok and counted:
                state.accepted[number] += 1.0
            number += 1
        if adapting and walking and target.walk_tuned:
            gain = 1.0 / (1.0 + state.counter[0]) ** 0.6
            state.walk[f] += gain * (count / rows.levels[f] - BEST_MANY)
        if rows.levels.shape[0] > 1 and count > 0:
            forget(state)


@kernel(inner=True)
def move_dispersion(target: Target, state: State, adapting: bool, squares: Array, rng: np.random.Generator) -> None:
    """Residual sds by their full conditional; phi or shape by a random walk on the log scale."""
    rows, a = target.rows, target.dispersion_parameters
    code = target.dispersion_code
    n = rows.X.shape[0]
    if is_gaussian(rows.code):
        for s in range(squares.shape[0]):
            squares[s] = 0.0
        mean = state.scratch.gradient
        row_means(rows.code, state.eta, mean)
        for r in range(n):
            e = rows.y[0, r] - mean[r]
            squares[target.sigma[r]] += target.prior_weights[0, r] * e * e
        for s in range(squares.shape[0]):
            state.dispersion[s] = draw_scale(state.dispersion[s], target.sigma_rows[s], squares[s], code, a, rng)
        set_weights(target, state)
    else:
        y, trials, w = rows.y[0], rows.trials[0], state.weights[0]
        gain = 1.0 / (1.0 + state.counter[0]) ** 0.6
        old = row_dispersion(rows.code, y, trials, w, state.eta, state.dispersion[0])
        for _ in range(2):
            root = 1.0 / math.sqrt(state.dispersion[0])
            move = math.exp(state.step[0]) * rng.standard_normal()
            s_new = root * math.exp(move)
            phi = 1.0 / (s_new * s_new)
            fresh = row_dispersion(rows.code, y, trials, w, state.eta, phi)
            ratio = fresh - old + move
            ratio += prior_log_density(code, a[0], a[1], a[2], s_new) - prior_log_density(code, a[0], a[1], a[2], root)
            ok = -rng.standard_exponential() < ratio
            if ok:
                state.dispersion[0] = phi
                old = fresh
            if adapting:
                state.step[0] += gain * ((1.0 if ok else 0.0) - BEST_ONE)
    forget(state)
    state.total[0] = math.nan


@kernel
def start(target: Target, state: State, rounds: int) -> bool:
    """Set everything that follows from the state, then find the mode of all coefficients given the covariances.

    Fixed effects and groups take damped Newton steps in turn. False if the log likelihood is not finite.
    """
    rows = target.rows
    if is_gaussian(rows.code):
        set_weights(target, state)
    if not set_covariances(target, state):
        return False
    set_eta(target, state)
    dispersion = row_dispersion_of(target, state)
    for _ in range(rounds):
        fixed_mode(
            rows,
            state.weights,
            dispersion,
            target.border,
            target.beta_codes,
            target.beta_parameters,
            state.beta,
            state.eta,
            10,
            state.scratch,
            state.Hx,
            state.vectors,
        )
        for f in range(rows.levels.shape[0]):
            for j in range(rows.levels[f]):
                group_mode(rows, state.weights, dispersion, f, j, state.Q[f], state.b, state.eta, 10, state.scratch)
    set_eta(target, state)
    return math.isfinite(state.total[0])


@kernel
def run_scans(
    target: Target,
    state: State,
    laplace: bool,
    plain: bool,
    adapting: bool,
    thin: int,
    beta: Array,
    b: Array,
    L: Array,
    dispersion: Array,
    rng: np.random.Generator,
) -> int:
    """Fill the outputs; returns the number of draws made, fewer than asked only if a matrix lost its definiteness.

    ``plain`` leaves out what Hoff's sampler does not have: whitened moves, and extra updates of fixed
    effects that have a random counterpart.
    """
    target, state = borrow(target), borrow(state)
    rows = target.rows
    squares = np.empty(max(state.dispersion.shape[0], 1))
    alone = False
    for i in range(target.moves.covered.shape[0]):
        if target.moves.covered[i] == 0:
            alone = True
    for scan in range(beta.shape[0] * thin):
        state.counter[0] += 1
        if state.counter[0] % REFRESH == 0:
            set_eta(target, state)
        move_translations(target, state, rng)
        if not move_covariances(target, state, rng):
            return scan // thin
        if not plain:
            move_whitened(target, state, adapting, rng)
        if not set_covariances(target, state):
            return scan // thin
        move_groups(target, state, laplace, adapting, rng)
        if alone or (not plain and state.counter[0] % EVERY == 0):
            ok, total = fixed_laplace(
                rows, state.weights, row_dispersion_of(target, state), target.border, target.beta_codes,
                target.beta_parameters, state.beta, state.eta, state.scratch, state.Hx, state.vectors, rng,
            )  # fmt: skip
            state.total[0] = total
            if ok:
                forget(state)
        if not target.dispersion_known:
            move_dispersion(target, state, adapting, squares, rng)
        if (scan + 1) % thin == 0:
            i = scan // thin
            for k in range(beta.shape[1]):
                beta[i, k] = state.beta[k]
            for r in range(L.shape[1]):
                for k in range(L.shape[2]):
                    for c in range(k + 1):
                        L[i, r, k, c] = state.L[r, k, c]
            for s in range(dispersion.shape[1]):
                dispersion[i, s] = state.dispersion[s]
            for k in range(b.shape[1]):
                b[i, k] = state.b[k]
    return beta.shape[0]
