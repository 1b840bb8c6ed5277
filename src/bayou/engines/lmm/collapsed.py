"""Collapsed sampling: theta from p(theta | y) with all coefficients integrated out, then the coefficients.

theta holds the square roots of the sds and the atanh partial correlations of every covariance block and
the log residual sds. It moves by independence proposals from a multivariate t fitted to the posterior
mode and then to the warm-up's draws (frozen afterwards), mixed with local random-walk steps that free a
chain from a tail where the t is too thin. Each proposal costs one factorisation, which then also serves
the exact draw of the coefficients given theta.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bayou._types import Array
from bayou.effects.iid import factor_from_coordinates, log_prior
from bayou.engines.covariances import precision_from_factors
from bayou.engines.lmm.state import State, Target, likelihood_weight, record
from bayou.jit import kernel
from bayou.linalg.schur import draw, factorise
from bayou.priors.table import prior_log_density

DF = 5.0  # of the proposal's t: heavier than any tail that a proper posterior of log sds has here
NEWTON_STEPS, CLOSE = 12, 1e-2  # at most so many; done when the next would gain less than half of this
OUTSIDE = 1e299
CLIMB = 25  # rounds through the coordinates at the most
LOCAL = 0.1  # share of random-walk steps; a fifth of that where the posterior looks normal


@kernel
def log_marginal(target: Target, state: State, t: Array) -> float:
    """Log p(theta | y) up to a constant, in the coordinates t; ``state`` is left factorised at theta."""
    blocks = target.blocks
    total = 0.0
    at = 0
    for r in range(blocks.size.shape[0]):
        p = blocks.size[r]
        total += factor_from_coordinates(t, at, p, state.L[r])
        if not total > -math.inf:
            return -math.inf
        total += log_prior(blocks, r, state.L[r], state.work[0])
        at += p * (p + 1) // 2
        J = float(target.levels[blocks.grouping[r]])
        for i in range(p):
            total -= J * math.log(state.L[r, i, i])
    if not target.sigma_known:
        a = target.sigma_parameters
        for s in range(state.sigma.shape[0]):
            if not abs(t[at + s]) < 300.0:
                return -math.inf
            state.sigma[s] = math.exp(t[at + s])
            total += t[at + s] + prior_log_density(target.sigma_code, a[0], a[1], a[2], state.sigma[s])
    if not total > -math.inf or not precision_from_factors(blocks, state.L, state.Q, state.work[4:]):
        return -math.inf
    ok, log_det, squares = factorise(
        target.arrow, target.border, likelihood_weight(target, state), state.Q, state.factor
    )
    if not ok:
        return -math.inf
    for s in range(state.sigma.shape[0]):
        total -= target.cells.rows[s] * math.log(state.sigma[s])
        squares -= target.cells.squares[s] / (state.sigma[s] * state.sigma[s])
    total += 0.5 * (squares - log_det)
    return total if math.isfinite(total) else -math.inf


@kernel(entry=True)
def run_collapsed(
    target: Target,
    first: State,
    second: State,
    t: Array,
    value: float,
    centre: Array,
    spread: Array,
    normal: float,
    thin: int,
    theta: Array,
    beta: Array,
    b: Array,
    L: Array,
    sigma: Array,
    accepted: Array,
    rng: np.random.Generator,
) -> tuple[int, bool, float]:
    """Fill the outputs, starting from ``t`` (updated in place) with ``first`` factorised there.

    ``normal`` is the share of the proposals that come from a normal of the same centre and spread.
    Returns (draws made, whether the states changed roles, the log density); ``accepted`` is the share of
    accepted proposals among the scans of each draw.
    """
    d = t.shape[0]
    proposal, z = np.empty(d), np.empty(d)
    swapped = False
    here, there = first, second
    weight = _log_proposal(t, centre, spread, normal, z)
    for i in range(theta.shape[0]):
        moved = 0
        for _ in range(thin):
            local = rng.random() < (LOCAL if normal == 0.0 else 0.2 * LOCAL)
            for k in range(d):
                z[k] = rng.standard_normal()
            if local:
                # step lengths over two decades, so that some fit wherever the chain is
                scale = 2.4 / math.sqrt(d) * math.exp(-4.0 * rng.random())
            elif normal > 0.0 and rng.random() < normal:
                scale = 1.0
            else:
                scale = math.sqrt(0.5 * DF / rng.standard_gamma(0.5 * DF))
            for k in range(d):
                s = t[k] if local else centre[k]
                for c in range(k + 1):
                    s += scale * spread[k, c] * z[c]
                proposal[k] = s
            new = log_marginal(target, there, proposal)
            new_weight = _log_proposal(proposal, centre, spread, normal, z)
            ratio = new - value
            if not local:
                ratio -= new_weight - weight
            if -rng.standard_exponential() < ratio:
                here, there = there, here
                swapped = not swapped
                value = new
                weight = new_weight
                moved += 1
                for k in range(d):
                    t[k] = proposal[k]
        draw(target.arrow, here.factor, here.rest, here.b, 0, rng)
        record(target, here, i, beta, b, L, sigma)
        for k in range(d):
            theta[i, k] = t[k]
        accepted[i] = moved / thin
    return theta.shape[0], swapped, value


@kernel(inner=True)
def _log_proposal(x: Array, centre: Array, spread: Array, normal: float, z: Array) -> float:
    """Log density of the proposal, up to a constant: a t and a share of a normal."""
    d = x.shape[0]
    q = 0.0
    for k in range(d):
        s = x[k] - centre[k]
        for c in range(k):
            s -= spread[k, c] * z[c]
        z[k] = s / spread[k, k]
        q += z[k] * z[k]
    t = -0.5 * (DF + d) * math.log(1.0 + q / DF)
    if normal == 0.0:
        return t
    # relative to the normal at the centre
    t += math.lgamma(0.5 * (DF + d)) - math.lgamma(0.5 * DF) - 0.5 * d * math.log(0.5 * DF)
    top = max(t, -0.5 * q)
    return top + math.log(normal * math.exp(-0.5 * q - top) + (1.0 - normal) * math.exp(t - top))


def mode_and_spread(target: Target, state: State, start: Array, unit: Array) -> tuple[Array, Array]:
    """Maximise log p(theta | y) from ``start``; return the mode and a factor of the inverse curvature.

    ``unit`` holds a typical size of each coordinate: steps and flat directions are measured in it.
    """

    def minus(x: Array) -> float:
        value = log_marginal(target, state, x * unit)
        return -value if value > -math.inf else 1e300

    d = len(start)
    mode = _climb(minus, start / unit)
    covariance = np.eye(d)
    for _ in range(NEWTON_STEPS):
        gradient, H = _differences(minus, mode)
        curvature, vectors = np.linalg.eigh(H)
        # a direction that the data leave open gets one unit, not infinity; one that bends upwards is mirrored
        covariance = (vectors / np.clip(np.abs(curvature), 1.0, None)) @ vectors.T
        step = -covariance @ gradient
        value, length = minus(mode), 1.0
        while length > 1e-3 and not minus(mode + length * step) < value:
            length *= 0.5
        if length > 1e-3:
            mode = mode + length * step
        if -gradient @ step < CLOSE or length <= 1e-3:
            break
    return mode * unit, np.linalg.cholesky(covariance) * unit[:, None]


def _climb(minus: Callable[[Array], float], x: Array) -> Array:
    """Go uphill one coordinate at a time, with steps that grow on success and shrink on failure.

    Slow near the mode but never lost far from it: sds that are wrong by a factor of a hundred are the rule
    at the start, and there the surface is anything but quadratic.
    """
    step = np.full(len(x), 0.4)
    best = minus(x)
    for _ in range(CLIMB):
        for i in range(len(x)):
            for sign in (1.0, -1.0):
                y = x.copy()
                y[i] += sign * step[i]
                value = minus(y)
                if value < best:
                    x, best = y, value
                    step[i] *= 1.6 * sign
                    break
            else:
                step[i] *= 0.4
        if np.abs(step).max() < 0.02:
            break
    return x


def _differences(minus: Callable[[Array], float], x: Array) -> tuple[Array, Array]:
    """Gradient and Hessian by central differences over steps in which the target changes noticeably."""
    d = len(x)
    centre = minus(x)
    h = np.array([_step(minus, x, e) for e in np.eye(d)])
    gradient, H = np.zeros(d), np.zeros((d, d))
    up = np.array([minus(x + h[i] * np.eye(d)[i]) for i in range(d)])
    down = np.array([minus(x - h[i] * np.eye(d)[i]) for i in range(d)])
    for i in range(d):
        if max(up[i], down[i]) > OUTSIDE:
            continue
        gradient[i] = (up[i] - down[i]) / (2.0 * h[i])
        H[i, i] = (up[i] + down[i] - 2.0 * centre) / h[i] ** 2
        for k in range(i):
            y = x.copy()
            y[i] += h[i]
            y[k] += h[k]
            both = minus(y)
            if max(both, up[k], down[k]) < OUTSIDE:
                bend = (both - up[i] - up[k] + centre) / (h[i] * h[k])
                H[i, k] = H[k, i] = bend
    return gradient, H


def _step(minus: Callable[[Array], float], x: Array, direction: Array) -> float:
    """Step over which the target bends by about a quarter: differences that rounding does not spoil."""
    h = 0.1
    centre = minus(x)
    for _ in range(30):
        bend = minus(x + h * direction) + minus(x - h * direction) - 2.0 * centre
        if bend > 1.0:
            h *= 0.5
        elif abs(bend) < 0.1 and h < 0.3:
            h *= 2.0
        else:
            break
    return h
