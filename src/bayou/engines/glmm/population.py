"""Proposals for all fixed effects at once: Laplace, as for a group, over all rows."""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array, Integers
from bayou.engines.glmm.groups import SETTLED
from bayou.engines.glmm.regression import (
    add_columns,
    add_fixed,
    add_normal_equations,
    centred_columns,
    reverse_density,
)
from bayou.engines.glmm.state import State, Target, forget, row_dispersion_of
from bayou.families.rows import LANES, add_compensated, add_pairwise, row_derivatives
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
def _visit(target: Target, state: State, beta: Array, step: Array, away: bool, sums: bool, H: Array, g: Array) -> float:
    """Visit all rows once, 512 at a time, with eta ``away`` by X step or where it is; returns the log likelihood there.

    With ``sums`` H <- X'WX + precision + diag(curvature of the other priors), g <- X'gradient + linear − precision
    beta.
    """
    rows, border, scratch = target.rows, target.border, state.scratch
    n, P, dispersion = state.eta.shape[0], border.linear.shape[0], row_dispersion_of(target, state)
    if sums:
        for i in range(P):
            g[i] = border.linear[i]
            for k in range(P):
                g[i] -= border.precision[i, k] * beta[k]
            for k in range(i + 1):
                H[i, k] = border.precision[i, k]
            H[i, i] += target.curvature[i]
    value, lost = 0.0, 0.0
    for a in range(0, n, LANES):
        m = min(LANES, n - a)
        eta, there = window(state.eta, a, m), window(scratch.here, 0, m)
        gradient, curvature = window(scratch.gradient, 0, m), window(scratch.curvature, 0, m)
        for r in range(m):
            there[r] = eta[r]
        centred_columns(rows, a, m, scratch.columns)
        if away:
            add_columns(scratch.columns, 0, LANES, m, P, step, 0, there)
        y, trials = window(rows.y, a, m), window(rows.trials, a * rows.trials_step, m)
        w = window(state.weights, a * rows.weights_step, m)
        row_derivatives(rows.code, y, trials, w, there, dispersion, scratch.work, gradient, curvature)
        if sums:
            add_normal_equations(scratch.columns, 0, LANES, m, P, gradient, curvature, scratch.weighted, H, g)
        value, lost = add_compensated(value, lost, add_pairwise(scratch.work, m))
    return value + lost if math.isfinite(value) else value


@kernel(inner=True)
def move_fixed(target: Target, state: State, length: float, rng: np.random.Generator) -> bool:
    """One Laplace proposal for all fixed effects given the rest. Returns whether it was accepted.

    A few steps are those of a random walk, shaped by the curvature at both ends: far in a tail, where the curvature
    is small, a Newton step leads beyond the other side and is never accepted.

    A positive ``length`` takes that part of the Newton step if it goes uphill, as in `laplace_levels`.
    """
    border, codes, parameters = target.border, target.beta_codes, target.beta_parameters
    beta, H = state.beta, state.Hx
    P = border.linear.shape[0]
    g, step, new, diagonal, moved = (
        state.vectors[0], state.vectors[1], state.vectors[2], state.vectors[3], state.vectors[4],
    )  # fmt: skip
    old = _visit(target, state, beta, step, False, True, H, g)
    state.total[0] = old
    if not cholesky_in_place(H):
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
        moved[i] = step[i]
    fresh = _visit(target, state, new, step, True, not length > 0.0, H, g)
    ratio += fresh - old
    ratio += log_prior_fixed(border, codes, parameters, new) - log_prior_fixed(border, codes, parameters, beta)
    if not ratio > -math.inf:
        return False
    if length > 0.0:
        if not ratio > 0.0:
            return False
    else:
        if not cholesky_in_place(H):
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
    add_fixed(target.rows, 0, state.eta.shape[0], moved, state.scratch.columns, state.eta)
    state.total[0] = fresh
    forget(state)
    return True
