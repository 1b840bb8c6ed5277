"""One factor's covariance, and sigma, with that factor's coefficients and the fixed effects integrated out.

Given the coefficients of the other factors a crossed model has one factor, whose density of (L_k, sigma) is that of
`collapsed`: Z'WZ, Z'W(y − others) and their like are at hand after the pass over the entries, so that it costs no
further one. Levels with the same Z'WZ are one term. Slices run along directions fitted to the warm-up: a factor of
few rows a level and sigma trade places along a ridge.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.effects.iid import coordinates_into, factor_from_coordinates, log_prior
from bayou.engines.covariances import precision_from_factors
from bayou.engines.crossed.coefficients import integrate
from bayou.engines.crossed.layout import Crossed
from bayou.engines.crossed.state import CrossState
from bayou.jit import kernel
from bayou.linalg.small import cholesky, log_determinant, solve_lower
from bayou.priors.table import prior_log_density

MOST = 4  # directions visited in one update: all of them, or so many random ones
STEPS_OUT = 30


@kernel(inner=True)
def read_theta(target: Crossed, state: CrossState, k: int, x: Array) -> int:
    """Write the coordinates of factor k's covariance, then log sigma if it has one level; returns how many."""
    blocks, at = target.blocks, 0
    for r in range(blocks.size.shape[0]):
        if blocks.grouping[r] == k:
            p = blocks.size[r]
            coordinates_into(state.L[r], p, x, at)
            at += p * (p + 1) // 2
    if not target.sigma_known and state.sigma.shape[0] == 1:
        x[at] = math.log(state.sigma[0])
        at += 1
    return at


@kernel
def log_density(target: Crossed, state: CrossState, k: int, x: Array, quadratic: float) -> float:
    """Log density of factor k's coordinates x given the other factors, up to a constant; the state is left there.

    ``quadratic`` is (y − others)'W(y − others).
    """
    blocks, at, total = target.blocks, 0, 0.0
    J = float(target.levels[k])
    for r in range(blocks.size.shape[0]):
        if blocks.grouping[r] == k:
            p = blocks.size[r]
            L = state.L[r]
            total += factor_from_coordinates(x, at, p, L)
            if not total > -math.inf:
                return -math.inf
            total += log_prior(blocks, r, L, state.work[1])
            at += p * (p + 1) // 2
            for i in range(p):
                total -= J * math.log(L[i, i])
    w = 1.0
    if state.sigma.shape[0] == 1:
        if not target.sigma_known:
            if not abs(x[at]) < 300.0:
                return -math.inf
            sigma = math.exp(x[at])
            state.sigma[0] = sigma
            a = target.sigma_parameters
            total += (1.0 - target.rows[0]) * x[at] + prior_log_density(target.sigma_code, a[0], a[1], a[2], sigma)
        w = 1.0 / (state.sigma[0] * state.sigma[0])
    if not total > -math.inf or not precision_from_factors(blocks, state.L, state.Q, state.work[4:]):
        return -math.inf
    ok, log_det, squares = integrate(target, state, k, w)
    if not ok:
        return -math.inf
    P, known = state.beta.shape[0], target.beta_codes.shape[0]
    free = P - known
    S, m, v = state.S, state.m, state.v[0]
    if not cholesky(S, state.C, free):
        return -math.inf
    log_det += log_determinant(state.C, free)
    for i in range(free, P):
        t = 2.0 * m[i] - S[i, i] * state.beta[i]
        for e in range(free, i):
            t -= 2.0 * S[i, e] * state.beta[e]
        squares += t * state.beta[i]
    for c in range(free):
        v[c] = m[c]
        for e in range(free, P):
            v[c] -= S[e, c] * state.beta[e]
    solve_lower(state.C, v, free)
    for c in range(free):
        squares += v[c] * v[c]
    total += 0.5 * (squares - w * quadratic - log_det)
    return total if math.isfinite(total) else -math.inf


@kernel(inner=True)
def slice_theta(
    target: Crossed, state: CrossState, k: int, quadratic: float, rng: np.random.Generator
) -> tuple[bool, float]:
    """Slice updates of factor k's coordinates along its directions (Neal 2003); returns success and the weight."""
    x, y = state.theta[0], state.theta[1]
    d = read_theta(target, state, k, x)
    value = log_density(target, state, k, x, quadratic)
    if not value > -math.inf:
        return False, 0.0
    for visit in range(min(d, MOST)):
        way = state.directions[k, visit if d <= MOST else int(rng.random() * d)]
        level = value - rng.standard_exponential()
        low = -rng.random()
        high = low + 1.0
        phase, steps = 0, 0  # 0: low end out, 1: high end out, 2: shrink
        while True:
            t = low
            if phase == 1:
                t = high
            elif phase == 2:
                t = low + (high - low) * rng.random()
            for i in range(d):
                y[i] = x[i] + t * way[i]
            there = log_density(target, state, k, y, quadratic)
            if phase < 2:
                steps += 1
                if not there > level or steps > STEPS_OUT:
                    phase += 1
                    steps = 0
                elif phase == 0:
                    low -= 1.0
                else:
                    high += 1.0
                continue
            if there > level:
                value = there
                for i in range(d):
                    x[i] = y[i]
                break
            if t < 0.0:
                low = t
            else:
                high = t
            if high - low < 1e-13:
                break
    value = log_density(target, state, k, x, quadratic)
    w = 1.0
    if state.sigma.shape[0] == 1:
        w = 1.0 / (state.sigma[0] * state.sigma[0])
    return value > -math.inf, w
