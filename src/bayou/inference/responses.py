"""The compiled part of a bootstrap of Gaussian models: a new response from the fit, its sums, the descent.

Of the sums over rows only those with the response change: Z'Wy, X'Wy and y'Wy. The curvature at the estimate is where
each descent begins, so that it takes a handful of evaluations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array
from bayou.conditional.gaussian import Sums, Work, deviance, evaluate_small
from bayou.conditional.rows import Rows, colour, predictor, project
from bayou.engines.marginal.descent import DECREMENT, GOING, VALUE, Descent, advance
from bayou.jit import kernel

VANISHED, PROBE, SLACK = 1e-3, 3e-2, 1e-8  # an entry of a factor that is tried again, at what, for which gain


class Truth(NamedTuple):
    """The fitted model that responses are drawn from, and scratch."""

    rows: Rows
    weights: Array  # (n,)
    T: Array  # (K, p, p) factors in the response's units
    beta: Array  # (P,) working fixed effects, the shift of the response not in them
    sigma: float
    psi: Array  # (d,) where each descent begins
    H: Array  # (d, d) inverse Hessian there
    u: Array  # (J, p)
    rest: Array  # (R,)
    b: Array  # (J, p)
    coloured: Array  # (R,)
    y: Array  # (n,)


@kernel(entry=True)
def respond(sums: Sums, truth: Truth, rng: np.random.Generator) -> None:
    """Draw a response y = X beta + Z T u + sigma e/√w into ``truth.y``, rows in the order of the sums."""
    J, p = truth.u.shape
    for j in range(J):
        for i in range(p):
            truth.u[j, i] = rng.standard_normal()
    fixed = sums.border.fixed
    for i in range(fixed):
        truth.rest[i] = rng.standard_normal()
    for i in range(truth.beta.shape[0]):
        truth.rest[fixed + i] = truth.beta[i]
    colour(sums.border, truth.T, truth.u, truth.rest, truth.b, truth.coloured)
    y = truth.y
    for i in range(y.shape[0]):
        y[i] = 0.0
    predictor(truth.rows, truth.b, truth.coloured, truth.rows.others.shape[1], y)
    for i in range(y.shape[0]):
        y[i] += truth.sigma / math.sqrt(truth.weights[i]) * rng.standard_normal()


@kernel
def summed(sums: Sums, truth: Truth) -> None:
    """Put the sums of the response ``truth.y`` in the place of the old ones; y becomes Wy."""
    y, w = truth.y, truth.weights
    squares = 0.0
    for i in range(y.shape[0]):
        squares += w[i] * y[i] * y[i]
        y[i] *= w[i]
    sums.squares[0] = squares
    project(truth.rows, y, truth.rows.others.shape[1], sums.arrow.a, sums.arrow.d)


@kernel
def begun(state: Descent, psi: Array, H: Array) -> None:
    """Set a descent to its beginning."""
    d = psi.shape[0]
    for i in range(state.facts.shape[0]):
        state.facts[i] = 0.0
    state.facts[VALUE] = math.inf
    for i in range(d):
        state.x[i] = psi[i]
        state.trial[i] = psi[i]
        for k in range(d):
            state.H[i, k] = H[i, k]


@kernel
def descended(sums: Sums, work: Work, state: Descent, restricted: bool) -> int:
    """Go down from ``state.trial`` to the end."""
    status = GOING
    while status == GOING:
        value = evaluate_small(sums, work, state.trial, restricted)
        status = advance(state, value, work.gradient)
    return status


@kernel(inner=True)
def _elsewhere(sums: Sums, work: Work, state: Descent, psi: Array, restricted: bool) -> bool:
    """Whether some vanished variance is a saddle: then ``psi`` is a point beside it that is lower."""
    d = psi.shape[0]
    for k in range(d):
        if sums.row[k] == sums.column[k] and abs(state.x[k]) < VANISHED:
            for i in range(d):
                psi[i] = state.x[i]
            psi[k] = PROBE
            if deviance(sums, work, psi, restricted) < state.facts[VALUE] - SLACK:
                return True
    return False


@kernel(entry=True)
def refitted(sums: Sums, work: Work, state: Descent, truth: Truth, scratch: Array, restricted: bool) -> float:
    """Maximise the likelihood of the response ``truth.y``; returns what the descent still promises.

    ``state`` and ``work`` are left at the maximum. For a Schur complement small enough to be inverted by hand.
    """
    summed(sums, truth)
    begun(state, truth.psi, truth.H)
    status = descended(sums, work, state, restricted)
    if math.isfinite(state.facts[VALUE]) and _elsewhere(sums, work, state, scratch, restricted):
        begun(state, scratch, truth.H)
        status = descended(sums, work, state, restricted)
    promise = 0.5 * state.facts[DECREMENT] if status != 1 else 0.0
    deviance(sums, work, state.x, restricted)
    return promise
