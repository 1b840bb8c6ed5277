"""Hyperparameters proposed from an approximation to their posterior, every group carried along.

At hyperparameters t (the covariance of a factor and, where it is the only one, the fixed effects) the coefficients
of group j are about N(m_j(t), H_j(t)⁻¹): one Newton step from an anchor a_j(t), the mean of the warm-up's draws with
the group's own line held while the fixed effects move. The move holds

    z_j = R_j(t)' (b_j − m_j(t)),  H_j = R_j R_j',

so that t moves against p(t | y) as the approximation has it, not against p(t | b): however many groups there are,
each is only as far from its approximation as before, and steps over the whole posterior of t are accepted. With
J the Jacobian of t -> Sigma the ratio is that of

    p(y | b, beta) p(b | Sigma) p(Sigma) p(beta) J Π_j |R_j(t)|⁻¹.

t itself moves by u' = cos(phi) u + sin(phi) N(0, I), t = centre + spread u, which leaves N(centre, spread spread')
invariant (Neal 1999; Cotter et al. 2013); centre and spread are those of the warm-up's draws.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.covariances import coordinates_of, density_at
from bayou.engines.glmm.groups import batch_end, equations, gather
from bayou.engines.glmm.population import log_prior_fixed
from bayou.engines.glmm.regression import add_columns, add_fixed, quadratic, total
from bayou.engines.glmm.state import State, Target, forget, log_likelihood, row_dispersion_of
from bayou.families.rows import row_derivatives, row_values
from bayou.jit import kernel, window
from bayou.linalg.small import solve_lower, solve_lower_transposed

LOCAL = 0.15  # share of shorter steps, of any length: they free a chain from a tail that the approximation lacks
GOAL = 0.5  # acceptance rate aimed at; steps over the whole posterior may be accepted more often


@kernel(inner=True)
def _coordinates(target: Target, state: State, f: int, d: int, t: Array) -> int:
    """T <- where the chain is: the blocks of the factor, then the fixed effects; returns where these begin."""
    at = coordinates_of(target.blocks, f, state.L, t)
    for i in range(at, d):
        t[i] = state.beta[i - at]
    return at


@kernel(inner=True)
def _place_anchor(target: Target, state: State, f: int, j: int, shift: Array, anchor: Array) -> None:
    """Set ``anchor`` (p,) to a_j: with the fixed effects off the centre by ``shift``, the level's own line is held."""
    rows, moves = target.rows, target.moves
    p = rows.sizes[f]
    for i in range(p):
        anchor[i] = state.carrier.anchor[rows.at_b[f] + j * p + i]
    for e in range(moves.first[f], moves.first[f + 1]):
        anchor[moves.coefficient[e]] -= moves.u[moves.at[e] + j] * shift[e]


@kernel(inner=True)
def _at_anchors(
    target: Target, state: State, f: int, first: int, last: int, moved: bool, here: Array, there: Array
) -> None:
    """Linear predictors of a batch of levels with their coefficients at the anchors: now, and at what is proposed."""
    rows, carrier = target.rows, state.carrier
    p, N, begin = rows.sizes[f], state.eta.shape[0], rows.first[f]
    low = rows.start[begin + first]
    n = rows.start[begin + last] - low
    anchor, other, step = carrier.vectors[1], carrier.vectors[2], carrier.vectors[3]
    gather(rows, f, low, n, state.eta, here)
    for j in range(first, last):
        a, m = rows.start[begin + j] - low, rows.start[begin + j + 1] - rows.start[begin + j]
        base = rows.at_b[f] + j * p
        _place_anchor(target, state, f, j, carrier.shift[0], anchor)
        for i in range(p):
            step[i] = anchor[i] - state.b[base + i]
        add_columns(rows.Z, rows.at_Z[f] + low + a, N, m, p, step, 0, window(here, a, m))
    for r in range(n):
        there[r] = here[r]
    if moved:
        add_fixed(rows, low, n, carrier.change, state.scratch.columns, there)
        for j in range(first, last):
            a, m = rows.start[begin + j] - low, rows.start[begin + j + 1] - rows.start[begin + j]
            _place_anchor(target, state, f, j, carrier.shift[0], anchor)
            _place_anchor(target, state, f, j, carrier.shift[1], other)
            for i in range(p):
                step[i] = other[i] - anchor[i]
            add_columns(rows.Z, rows.at_Z[f] + low + a, N, m, p, step, 0, window(there, a, m))


@kernel(inner=True)
def _arrive(target: Target, state: State, f: int, moved: bool) -> None:
    """Move the coefficients of all levels and eta to where `_carry` went."""
    rows, carrier = target.rows, state.carrier
    p, J, N, begin = rows.sizes[f], rows.levels[f], state.eta.shape[0], rows.first[f]
    anchor = carrier.vectors[1]
    first = 0
    while first < J:
        last = batch_end(rows, f, first)
        low = rows.start[begin + first]
        n = rows.start[begin + last] - low
        here, there = window(state.scratch.here, 0, n), window(carrier.there, 0, n)
        if f == 0:
            _at_anchors(target, state, f, first, last, moved, here, there)
        for j in range(first, last):
            a, m = rows.start[begin + j] - low, rows.start[begin + j + 1] - rows.start[begin + j]
            base = rows.at_b[f] + j * p
            _place_anchor(target, state, f, j, carrier.shift[1], anchor)
            for i in range(p):
                state.b[base + i] = anchor[i] + carrier.b[j * p + i]
            if f == 0:
                add_columns(rows.Z, rows.at_Z[f] + low + a, N, m, p, carrier.b, j * p, window(there, a, m))
        if f == 0:
            out = window(state.eta, low, n)
            for r in range(n):
                out[r] = there[r]
        first = last
    if f > 0:
        for r in range(N):
            state.eta[r] = state.scratch.eta[r]


@kernel(inner=True)
def _carry(target: Target, state: State, f: int, dispersion: float, moved: bool) -> float:
    """Carry all levels from the present hyperparameters to the proposed ones: coefficients, eta, log density of both.

    Returns log p(y, b' | …) − log p(y, b | …) + Σ log|R_j| − Σ log|R_j'|, without the determinants of Sigma.
    """
    rows, scratch, carrier = target.rows, state.scratch, state.carrier
    p, J, N = rows.sizes[f], rows.levels[f], state.eta.shape[0]
    begin = rows.first[f]
    now, new, Q, Q_new = carrier.Q[0], carrier.Q[1], carrier.Q[2], carrier.Q[3]
    g, z, step, diagonal = scratch.vectors[0], carrier.vectors[0], carrier.step, carrier.diagonal
    anchor = carrier.vectors[1]
    gradient, curvature, value = scratch.gradient, scratch.curvature, scratch.value
    ratio, likelihood, determinant = 0.0, 0.0, 1.0
    first = 0
    while first < J:
        last = batch_end(rows, f, first)
        low = rows.start[begin + first]
        n = rows.start[begin + last] - low
        y, trials = window(rows.y, f * N + low, n), window(rows.trials, (f * N + low) * rows.trials_step, n)
        w = window(state.weights, (f * N + low) * rows.weights_step, n)
        here, there = window(scratch.here, 0, n), window(carrier.there, 0, n)
        _at_anchors(target, state, f, first, last, moved, here, there)
        row_derivatives(rows.code, y, trials, w, here, dispersion, value, gradient, curvature)
        for j in range(first, last):
            a, m = rows.start[begin + j] - low, rows.start[begin + j + 1] - rows.start[begin + j]
            base = rows.at_b[f] + j * p
            b = window(state.b, base, p)
            _place_anchor(target, state, f, j, carrier.shift[0], anchor)
            if not equations(rows, f, low, a, m, Q, anchor, gradient, curvature, scratch, now, g):
                return -math.inf
            # z = R'(b − a) − R⁻¹ gradient
            solve_lower(now, g, p)
            for i in range(p):
                t = -g[i]
                for k in range(i, p):
                    t += now[k, i] * (b[k] - anchor[k])
                step[(j - first) * p + i] = t
                diagonal[(j - first) * p + i] = now[i, i]
            ratio += 0.5 * quadratic(Q, b, p)
        row_derivatives(rows.code, y, trials, w, there, dispersion, value, gradient, curvature)
        for j in range(first, last):
            a, m = rows.start[begin + j] - low, rows.start[begin + j + 1] - rows.start[begin + j]
            base = rows.at_b[f] + j * p
            b_new, kept = carrier.vectors[2], window(carrier.b, j * p, p)
            _place_anchor(target, state, f, j, carrier.shift[1], anchor)
            if not equations(rows, f, low, a, m, Q_new, anchor, gradient, curvature, scratch, new, g):
                return -math.inf
            solve_lower(new, g, p)
            for i in range(p):
                z[i] = g[i] + step[(j - first) * p + i]
            solve_lower_transposed(new, z, p)
            for i in range(p):
                b_new[i] = anchor[i] + z[i]
                kept[i] = z[i]
            add_columns(rows.Z, rows.at_Z[f] + low + a, N, m, p, z, 0, window(there, a, m))
            for i in range(p):
                determinant *= diagonal[(j - first) * p + i] / new[i, i]
            if not 1e-100 < determinant < 1e100:
                ratio += math.log(determinant)
                determinant = 1.0
            ratio -= 0.5 * quadratic(Q_new, b_new, p)
        row_values(rows.code, y, trials, w, there, dispersion, value)
        likelihood += total(value, 0, n)
        if f > 0:
            for r in range(n):
                scratch.eta[rows.master[f - 1, low + r]] = there[r]
        first = last
    carrier.total[0] = likelihood
    return ratio + math.log(determinant) + likelihood - state.total[0]


@kernel(inner=True)
def move_carried(target: Target, state: State, adapting: bool, rng: np.random.Generator) -> None:
    """One step of the hyperparameters of every factor that has an approximation."""
    rows, blocks, carrier = target.rows, target.blocks, state.carrier
    P = state.beta.shape[0]
    t, u, z = carrier.t[0], carrier.t[1], carrier.t[2]
    change, Q, Q_new = carrier.change, carrier.Q[2], carrier.Q[3]
    for f in range(rows.levels.shape[0]):
        if carrier.ready[f] == 0:
            continue
        first = carrier.first[f]
        d = carrier.first[f + 1] - first
        spread = carrier.spread[f]
        phi = 0.5 * math.pi / (1.0 + math.exp(-carrier.angle[f]))
        local = rng.random() < LOCAL
        if local:
            phi *= rng.random() ** 2
        at = _coordinates(target, state, f, d, t)
        levels = float(rows.levels[f])
        ratio = -density_at(blocks, f, levels, t, carrier.L, Q, state.work)
        for i in range(d):
            s = t[i] - carrier.centre[first + i]
            for k in range(i):
                s -= spread[i, k] * u[k]
            u[i] = s / spread[i, i]
            z[i] = math.cos(phi) * u[i] + math.sin(phi) * rng.standard_normal()
            ratio += 0.5 * (z[i] * z[i] - u[i] * u[i])
        for i in range(d):
            s = carrier.centre[first + i]
            for k in range(i + 1):
                s += spread[i, k] * z[k]
            t[i] = s
        ratio += density_at(blocks, f, levels, t, carrier.L, Q_new, state.work)
        if at < d:
            ratio -= log_prior_fixed(target.border, target.beta_codes, target.beta_parameters, state.beta)
            ratio += log_prior_fixed(target.border, target.beta_codes, target.beta_parameters, t[at:d])
            for i in range(P):
                change[i] = t[at + i] - state.beta[i]
            for e in range(target.moves.first[f], target.moves.first[f + 1]):
                now, new = 0.0, 0.0
                for i in range(P):
                    centre = carrier.centre[first + at + i]
                    now += target.moves.reading[e, i] * (state.beta[i] - centre)
                    new += target.moves.reading[e, i] * (t[at + i] - centre)
                carrier.shift[0, e], carrier.shift[1, e] = now, new
        ok = False
        if math.isfinite(ratio):
            if math.isnan(state.total[0]):
                state.total[0] = log_likelihood(target, state, state.eta)
            ratio += _carry(target, state, f, row_dispersion_of(target, state), at < d)
            ok = -rng.standard_exponential() < ratio
        if not local:
            carrier.tally[f, 0] += 1.0
        if adapting and not local:
            carrier.angle[f] += 2.0 * ((1.0 if ok else 0.0) - GOAL) / (1.0 + carrier.tally[f, 0]) ** 0.6
        if not ok:
            continue
        if not local:
            carrier.tally[f, 1] += 1.0
        for i in range(P):
            if at < d:
                state.beta[i] = t[at + i]
        _arrive(target, state, f, at < d)
        for r in range(blocks.size.shape[0]):
            if blocks.grouping[r] == f:
                for i in range(blocks.size[r]):
                    for k in range(i + 1):
                        state.L[r, i, k] = carrier.L[r, i, k]
        forget(state)
        state.total[0] = carrier.total[0]
