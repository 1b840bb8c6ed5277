"""Climbing to a mode of the hyperparameters' density, and the curvature there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayou._types import Array
from bayou.engines.marginal.descent import CONVERGED, DECREMENT, EVALUATIONS, GOING, VALUE, advance, new_descent
from bayou.packed import packed

__all__ = ["Peak", "climb", "curvature"]

Evaluate = Callable[[Array], tuple[float, Array]]
PROMISE = 1e-7  # of the gain still promised: close enough, where rounding ended the descent
STEP = 0.03  # of the differences of gradients, in standard deviations
FLATTEST = 0.02  # information on a direction, at least: an sd of seven units of the internal scale
BASIN = 1.0  # how near to a known mode, in its sds and in log density, a climb is given up


@dataclass(frozen=True, eq=False)
class Peak:
    """A mode: where, how high, and the inverse of the negative Hessian (or what is known of it)."""

    theta: Array
    height: float
    covariance: Array

    def holds(self, theta: Array, height: float) -> bool:
        """Return whether a point (d,) with this height lies on the mode's top."""
        if height < self.height - BASIN:
            return False
        d = theta - self.theta
        return float(d @ np.linalg.solve(self.covariance, d)) < BASIN**2


def climb(evaluate: Evaluate, start: Array, known: tuple[Peak, ...] = ()) -> tuple[Peak | None, int, bool]:
    """Climb by BFGS with the gradient; ``evaluate`` returns minus the log density and its gradient.

    Returns the mode with the inverse Hessian that was learnt on the way (None where it came to the top of a known one),
    the evaluations, and whether it is a stationary point.

    Raises
    ------
    ArithmeticError
        If the density is not finite at the start.
    """
    H = 0.3 * np.eye(len(start))
    used = 0
    for _ in range(3):
        state = new_descent(start, H)
        handed = packed(state)
        status = GOING
        while status == GOING:
            value, gradient = evaluate(state.trial)
            status = int(advance(handed, value if np.isfinite(value) else np.inf, np.asarray(gradient)))
            if any(one.holds(state.x, -float(state.facts[VALUE])) for one in known):
                return None, used + int(state.facts[EVALUATIONS]), True
        used += int(state.facts[EVALUATIONS])
        if not np.isfinite(state.facts[VALUE]):
            raise ArithmeticError("the density of the hyperparameters is not finite where the search begins")
        good = status == CONVERGED or 0.5 * state.facts[DECREMENT] < PROMISE
        if good:
            break
        start, H = state.x.copy(), 0.3 * np.eye(len(start))
    return Peak(state.x.copy(), -float(state.facts[VALUE]), state.H.copy()), used, bool(good)


def curvature(evaluate: Evaluate, theta: Array, H: Array) -> tuple[Array, int]:
    """Return the inverse of the Hessian by differences of gradients, positive definite, and the evaluations.

    H is a first guess of it, from which the lengths of the differences are taken.
    """
    d = len(theta)
    hessian = np.empty((d, d))
    for i in range(d):
        step = np.zeros(d)
        step[i] = STEP * min(max(float(np.sqrt(max(H[i, i], 0.0))), 0.01), 3.0)
        above, below = (np.array(evaluate(theta + side * step)[1]) for side in (1.0, -1.0))
        hessian[i] = (above - below) / (2.0 * step[i])
    hessian = 0.5 * (hessian + hessian.T)
    if not np.isfinite(hessian).all():
        return np.eye(d), 2 * d
    values, vectors = np.linalg.eigh(hessian)
    return np.asarray((vectors / np.maximum(values, FLATTEST)) @ vectors.T), 2 * d
