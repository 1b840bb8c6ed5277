"""Quasi-Newton descent by reverse communication: it names the next point, whoever uses it evaluates there.

So the same few lines serve a loop compiled as a whole and a loop in Python. BFGS on the inverse Hessian with a
backtracking line search (Nocedal & Wright, *Numerical Optimization*, 2006, chapters 3 and 6).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array
from bayou.jit import kernel

GOING, CONVERGED, STALLED, SPENT, ACCEPTED = 0, 1, 2, 3, 4
VALUE, STEP, SLOPE, ITERATIONS, EVALUATIONS, DECREMENT, NOISE = 0, 1, 2, 3, 4, 5, 6
TOLERANCE = 1e-13  # of the gain that a Newton step still promises, in units of log likelihood
SUFFICIENT = 1e-4
LONGEST = 4.0  # of a step, in units of the parameters, or of their size where that is larger
LIMIT = 500  # evaluations
LEAST = 1e-2  # information on a parameter: a standard error of ten units


class Descent(NamedTuple):
    """The state of a descent in d parameters."""

    x: Array  # (d,) the best point
    gradient: Array  # (d,) there
    trial: Array  # (d,) where to evaluate next
    direction: Array  # (d,)
    H: Array  # (d, d) approximation to the inverse Hessian
    facts: Array  # (7,)
    scratch: Array  # (3, d)
    matrices: Array  # (2, d, d) scratch


def new_descent(x: Array, H: Array) -> Descent:
    """Return a descent that begins at x (d,) with the inverse Hessian H (d, d)."""
    facts = np.zeros(7)
    facts[VALUE] = np.inf
    d = len(x)
    H = np.ascontiguousarray(H)
    return Descent(x.copy(), np.zeros(d), x.copy(), np.zeros(d), H, facts, np.zeros((3, d)), np.zeros((2, d, d)))


@kernel
def _aim(state: Descent) -> bool:
    """Set the direction −H gradient and its slope; False once what it promises is below the tolerance."""
    d = state.x.shape[0]
    slope = 0.0
    longest = 0.0
    for i in range(d):
        t = 0.0
        for k in range(d):
            t -= state.H[i, k] * state.gradient[k]
        state.direction[i] = t
        slope += t * state.gradient[i]
        longest = max(longest, abs(t) / max(1.0, abs(state.x[i])))
    if not slope <= 0.0:
        # rounding has left H without meaning: straight down, one unit at most
        steepest = 0.0
        for i in range(d):
            steepest = max(steepest, abs(state.gradient[i]))
        slope = 0.0
        longest = 1.0
        for i in range(d):
            for k in range(d):
                state.H[i, k] = 1.0 / steepest if i == k else 0.0
            state.direction[i] = -state.gradient[i] / steepest
            slope += state.direction[i] * state.gradient[i]
    state.facts[DECREMENT] = -slope
    if longest > LONGEST:
        for i in range(d):
            state.direction[i] *= LONGEST / longest
        slope *= LONGEST / longest
    state.facts[SLOPE] = slope
    return -slope > 2.0 * TOLERANCE


@kernel
def _bend(state: Descent, gradient: Array) -> None:
    """Update the inverse Hessian by the change of gradient along the accepted step trial − x."""
    d = state.x.shape[0]
    s, y, Hy, H = state.scratch[0], state.scratch[1], state.scratch[2], state.H
    along, length = 0.0, 0.0
    for i in range(d):
        s[i] = state.trial[i] - state.x[i]
        y[i] = gradient[i] - state.gradient[i]
        along += s[i] * y[i]
        length += y[i] * y[i]
    curvature = 0.0
    for i in range(d):
        t = 0.0
        for k in range(d):
            t += H[i, k] * y[k]
        Hy[i] = t
        curvature += y[i] * t
    if along <= 1e-12 * math.sqrt(length * curvature) or not along > 0.0:
        # no curvature seen on the way: look further ahead next time
        for i in range(d):
            for k in range(d):
                H[i, k] *= 2.0
        return
    for i in range(d):
        for k in range(d):
            H[i, k] += (1.0 + curvature / along) * s[i] * s[k] / along - (Hy[i] * s[k] + s[i] * Hy[k]) / along


@kernel
def take(state: Descent, value: float, gradient: Array) -> int:
    """Take in the value and gradient at ``state.trial``: ACCEPTED, GOING with a shorter step, or how it ended."""
    facts, d = state.facts, state.x.shape[0]
    facts[EVALUATIONS] += 1.0
    finite = math.isfinite(value)
    for i in range(d):
        finite = finite and math.isfinite(gradient[i])
    if facts[EVALUATIONS] == 1.0:
        if not finite:
            return STALLED
        facts[VALUE] = value
        for i in range(d):
            state.gradient[i] = gradient[i]
    else:
        noise = 1e-13 * (1.0 + abs(facts[VALUE])) + facts[NOISE]
        if not finite or value > facts[VALUE] + SUFFICIENT * facts[STEP] * facts[SLOPE] + noise:
            shrink = 0.1
            if finite:
                # the minimum of the parabola through both values and the slope
                rise = value - facts[VALUE] - facts[STEP] * facts[SLOPE]
                shrink = min(max(-0.5 * facts[STEP] * facts[SLOPE] / rise, 0.1), 0.5)
            facts[STEP] *= shrink
            if facts[STEP] < 1e-10 or facts[EVALUATIONS] >= LIMIT:
                return STALLED if facts[EVALUATIONS] < LIMIT else SPENT
            for i in range(d):
                state.trial[i] = state.x[i] + facts[STEP] * state.direction[i]
            return GOING
        _bend(state, gradient)
        facts[VALUE] = value
        for i in range(d):
            state.x[i] = state.trial[i]
            state.gradient[i] = gradient[i]
    return ACCEPTED


@kernel
def aim(state: Descent) -> int:
    """Set the next point to try; returns GOING or how it ended."""
    facts = state.facts
    if not _aim(state):
        return CONVERGED
    if facts[EVALUATIONS] >= LIMIT:
        return SPENT
    facts[ITERATIONS] += 1.0
    facts[STEP] = 1.0
    for i in range(state.x.shape[0]):
        state.trial[i] = state.x[i] + state.direction[i]
    return GOING


@kernel
def advance(state: Descent, value: float, gradient: Array) -> int:
    """Take in the value and gradient at ``state.trial`` and move on; returns GOING or how it ended.

    When it has ended, ``state.x`` is the best point and ``facts[VALUE]`` the value there.
    """
    status = take(state, value, gradient)
    return aim(state) if status == ACCEPTED else status


def usable_inverse(information: Array) -> Array:
    """Return the inverse of an information matrix, bounded where it says little."""
    d = len(information)
    if not d:
        return np.zeros((0, 0))
    if not np.isfinite(information).all():
        return np.eye(d)
    scale = np.sqrt(np.maximum(np.diag(information), LEAST))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    values = np.maximum(values, 1e-3)
    return np.asarray((vectors / values) @ vectors.T / np.outer(scale, scale))
