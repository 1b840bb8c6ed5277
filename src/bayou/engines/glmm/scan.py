"""One scan of Metropolis-within-Gibbs for generalized linear mixed models.

In turn: fixed effects with each group's own coefficients held (translations, free of the rows); every
covariance block given the group coefficients; the sds of nested factors given the sums of their coefficients;
all blocks with the whitened coefficients held; every
group's coefficients; all fixed effects given them; the dispersion.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.centring import move_centres, move_nested
from bayou.engines.glmm.carried import move_carried
from bayou.engines.glmm.groups import batch_end, laplace_levels, walk_levels
from bayou.engines.glmm.nested import move_lineages
from bayou.engines.glmm.population import move_fixed
from bayou.engines.glmm.state import (
    State,
    Target,
    forget,
    is_gaussian,
    row_dispersion_of,
    set_covariances,
    set_eta,
    set_weights,
)
from bayou.engines.glmm.whitened import BEST_ONE, move_whitened
from bayou.engines.moves import draw_block, draw_scale
from bayou.families.rows import LANES, row_dispersion, row_means
from bayou.jit import kernel, window
from bayou.linalg.small import fill
from bayou.priors.table import prior_log_density

REFRESH = 64  # scans after which eta is computed afresh, against the drift of small increments
WALK = 0.05  # share of random-walk steps among Laplace proposals: frees a group from a far tail
BEST_MANY = 0.28  # acceptance rate aimed at (Roberts & Rosenthal 2001)


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
        f, q = blocks.grouping[r], blocks.size[r]
        p, J = rows.sizes[f], rows.levels[f]
        fill(scatter[:q, :q], 0.0)
        at = rows.at_b[f] + blocks.start[r]
        for j in range(J):
            own = window(state.b, at + j * p, q)
            for i in range(q):
                for k in range(i + 1):
                    scatter[i, k] += own[i] * own[k]
        for i in range(q):
            for k in range(i):
                scatter[k, i] = scatter[i, k]
        if not draw_block(blocks, r, float(J), scatter, state.L[r], state.work[3:6], state.work[2], rng):
            return False
    return True


@kernel(inner=True)
def move_groups(
    target: Target, state: State, laplace: bool, adapting: bool, length: float, rng: np.random.Generator
) -> int:
    """Every level of every factor; for ``length`` see `laplace_levels`. Returns how many were accepted."""
    rows = target.rows
    dispersion = row_dispersion_of(target, state)
    begin = 0
    accepted = 0
    for f in range(rows.levels.shape[0]):
        J = rows.levels[f]
        walking = not laplace or (not length > 0.0 and rng.random() < WALK)
        moved = state.sums
        if walking == (not laplace):
            moved = window(state.accepted, begin, J)
            state.tries[f] += 1.0
        known = window(state.likelihood, begin, J)
        scale = math.exp(state.walk[f])
        count = 0
        first = 0
        while first < J:
            last = batch_end(rows, f, first)
            many = last - first
            if walking:
                count += walk_levels(
                    rows, state.weights, dispersion, f, first, last, scale, state.Sigma[f], state.Q[f], state.b,
                    state.eta, window(known, first, many), window(moved, first, many), state.scratch, rng,
                )  # fmt: skip
            else:
                count += laplace_levels(
                    rows, state.weights, dispersion, f, first, last, state.Q[f], state.b,
                    state.eta, length, window(moved, first, many), state.scratch, rng,
                )  # fmt: skip
            first = last
        if count > 0:
            state.total[0] = math.nan
            if not walking or rows.levels.shape[0] > 1:  # levels of other factors share these rows
                forget(state)
        if adapting and walking and target.walk_tuned:
            gain = 1.0 / (1.0 + state.counter[0]) ** 0.6
            state.walk[f] += gain * (count / J - BEST_MANY)
        begin += J
        accepted += count
    return accepted


@kernel(inner=True)
def move_dispersion(target: Target, state: State, adapting: bool, squares: Array, rng: np.random.Generator) -> None:
    """Residual sds by their full conditional; phi or shape by a random walk on the log scale."""
    rows, a = target.rows, target.dispersion_parameters
    code = target.dispersion_code
    n = state.eta.shape[0]
    if is_gaussian(rows.code):
        for s in range(squares.shape[0]):
            squares[s] = target.sigma_squares[s]
        for low in range(0, n, LANES):
            m = min(LANES, n - low)
            mean, prior = window(state.scratch.gradient, 0, m), window(target.prior_weights, low * target.prior_step, m)
            row_means(rows.code, window(state.eta, low, m), mean)
            for r in range(m):
                e = rows.y[0, low + r] - mean[r]
                squares[target.sigma[(low + r) * target.sigma_step]] += prior[r] * e * e
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


@kernel(inner=True)
def _set_all(target: Target, state: State) -> bool:
    """Set all that follows from the coefficients, the covariances and the dispersion; False if it is not finite."""
    if is_gaussian(target.rows.code):
        set_weights(target, state)
    if not set_covariances(target, state):
        return False
    set_eta(target, state)
    return math.isfinite(state.total[0])


@kernel(entry=True)
def run_scans(
    target: Target,
    state: State,
    laplace: bool,
    plain: bool,
    adapting: bool,
    thin: int,
    length: float,
    beta: Array,
    b: Array,
    L: Array,
    dispersion: Array,
    rng: np.random.Generator,
) -> int:
    """Fill the outputs; returns the number of draws made, fewer than asked only if a matrix lost its definiteness.

    ``plain`` leaves out what Hoff's sampler does not have: moves of nested and whitened coefficients, and
    updates of fixed effects that have a random counterpart given the groups.

    With a positive ``length`` nothing is drawn: all coefficients take that part of a Newton step where it goes
    uphill, without ``laplace`` the fixed effects only. Returns how many did or are at their mode (levels, and
    one for the fixed effects), −1 if the log likelihood is not finite.
    """
    if length > 0.0:
        if not _set_all(target, state):
            return -1
        fixed = state.beta.shape[0] == 0 or move_fixed(target, state, length, rng)
        count = 1 if fixed else 0
        return count + move_groups(target, state, True, False, length, rng) if laplace else count
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
            move_lineages(target, state, rng)
            move_whitened(target, state, adapting, rng)
            move_carried(target, state, adapting, rng)
        if not set_covariances(target, state):
            return scan // thin
        move_groups(target, state, laplace, adapting, 0.0, rng)
        if alone or not plain:
            move_fixed(target, state, 0.0, rng)
        if not target.dispersion_known:
            move_dispersion(target, state, adapting, squares, rng)
        if adapting and not plain:
            carrier = state.carrier
            carrier.scans[0] += 1
            for k in range(state.b.shape[0]):
                carrier.sum[k] += state.b[k]
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
