"""Proposals for all fixed effects at once: Laplace, as for a group, over all rows."""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array, Integers
from bayou.engines.glmm.groups import SETTLED
from bayou.engines.glmm.regression import Rows, Scratch, add_columns, add_normal_equations, reverse_density
from bayou.engines.glmm.state import State, Target, forget, row_dispersion_of
from bayou.families.rows import LANES, row_terms
from bayou.jit import kernel, window
from bayou.linalg.schur import Border
from bayou.linalg.small import cholesky_in_place, solve_lower, solve_lower_transposed
from bayou.priors.table import prior_log_density

WALK = 0.1  # share of random-walk steps


@kernel(inner=True)
def log_prior_fixed(border: Border, codes: Integers, parameters: Array, beta: Array) -> float:
    """Log p(beta) up to a constant; ``beta`` may be longer scratch."""
    P = border.linear.shape[0]
    total = 0.0
    for i in range(P):
        t = 0.0
        for k in range(P):
            t += border.precision[i, k] * beta[k]
        total += beta[i] * (border.linear[i] - 0.5 * t)
    for k in range(codes.shape[0]):
        x = beta[P - codes.shape[0] + k]
        total += prior_log_density(codes[k], parameters[k, 0], parameters[k, 1], parameters[k, 2], x)
    return total


@kernel(inner=True)
def _equations(rows: Rows, border: Border, prior: Array, beta: Array, scratch: Scratch, H: Array, g: Array) -> bool:
    """H <- factor of X'WX + precision + diag(prior), g <- X'gradient + linear − precision beta, block by block."""
    n, P = rows.offset.shape[0], border.linear.shape[0]
    for i in range(P):
        g[i] = border.linear[i]
        for k in range(P):
            g[i] -= border.precision[i, k] * beta[k]
        for k in range(i + 1):
            H[i, k] = border.precision[i, k]
        H[i, i] += prior[i]
    for a in range(0, n, LANES):
        m = min(LANES, n - a)
        add_normal_equations(
            rows.X, a, n, m, P, window(scratch.gradient, a, m), window(scratch.curvature, a, m), scratch.weighted, H, g
        )
    return cholesky_in_place(H)


@kernel(inner=True)
def move_fixed(target: Target, state: State, length: float, rng: np.random.Generator) -> bool:
    """One Laplace proposal for all fixed effects given the rest. Returns whether it was accepted.

    A few steps are those of a random walk, shaped by the curvature at both ends: far in a tail, where the curvature
    is small, a Newton step leads beyond the other side and is never accepted.

    A positive ``length`` takes that part of the Newton step if it goes uphill, as in `laplace_levels`.
    """
    rows, border, codes, parameters = target.rows, target.border, target.beta_codes, target.beta_parameters
    beta, eta, scratch, H = state.beta, state.eta, state.scratch, state.Hx
    n, P = rows.offset.shape[0], border.linear.shape[0]
    y, trials, w, dispersion = rows.y[0], rows.trials[0], state.weights[0], row_dispersion_of(target, state)
    g, step, new, diagonal = state.vectors[0], state.vectors[1], state.vectors[2], state.vectors[3]
    gradient, curvature = scratch.gradient, scratch.curvature
    there = scratch.eta
    old = row_terms(rows.code, y, trials, w, eta, dispersion, gradient, curvature, scratch.work)
    state.total[0] = old
    if not _equations(rows, border, target.curvature, beta, scratch, H, g):
        return False
    solve_lower(H, g, P)
    ratio = 0.0
    walking, scale = False, 1.0
    if length > 0.0:
        gain = 0.0
        for i in range(P):
            gain += g[i] * g[i]
            step[i] = length * g[i]
        if gain < SETTLED:
            return True
    else:
        walking = rng.random() < WALK
        scale = rng.random() if walking else 1.0
        for i in range(P):
            z = rng.standard_normal()
            ratio += 0.5 * z * z
            diagonal[i] = H[i, i]
            step[i] = scale * z if walking else g[i] + z
    solve_lower_transposed(H, step, P)
    for i in range(P):
        new[i] = beta[i] + step[i]
    for r in range(n):
        there[r] = eta[r]
    add_columns(rows.X, 0, n, n, P, step, 0, there)
    fresh = row_terms(rows.code, y, trials, w, there, dispersion, gradient, curvature, scratch.work)
    ratio += fresh - old
    ratio += log_prior_fixed(border, codes, parameters, new) - log_prior_fixed(border, codes, parameters, beta)
    if not ratio > -math.inf:
        return False
    if length > 0.0:
        if not ratio > 0.0:
            return False
    else:
        if not _equations(rows, border, target.curvature, new, scratch, H, g):
            return False
        if walking:
            # of the step back, in units of its own length
            for i in range(P):
                g[i] = 0.0
                step[i] /= scale
        else:
            solve_lower(H, g, P)
        if not -rng.standard_exponential() < ratio + reverse_density(H, g, step, 0, P, diagonal):
            return False
    for i in range(P):
        beta[i] = new[i]
    for r in range(n):
        eta[r] = there[r]
    state.total[0] = fresh
    forget(state)
    return True
