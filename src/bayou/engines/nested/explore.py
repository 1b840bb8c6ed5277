"""The mode of the hyperparameters and the coordinates around it in which their density is about standard normal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayou._types import Array
from bayou.conditional.field import Field
from bayou.engines.marginal.descent import CONVERGED, DECREMENT, EVALUATIONS, GOING, VALUE, advance, new_descent
from bayou.engines.nested.height import height
from bayou.packed import packed

__all__ = ["Mode", "explore"]

Evaluate = Callable[[Array], tuple[float, Array]]
PROMISE = 1e-7  # of the gain still promised: close enough, where rounding ended the descent
STEP = 0.03  # of the differences of gradients, in standard deviations
PROBE = np.sqrt(2.0)  # where skewness is measured: a normal density has fallen by one there
WIDEST, NARROWEST = 5.0, 0.2  # of the corrections for skewness
FLATTEST = 0.02  # information on a direction, at least: an sd of seven units of the internal scale


@dataclass(frozen=True, eq=False)
class Mode:
    """The top of log p(theta | y), and a map to it from coordinates z that are about standard normal.

    theta = theta* + axes (s(z) z), with s_k(z_k) = left_k for z_k < 0 and right_k above: each principal axis has its
    own spread on either side (Martins, Simpson, Lindgren & Rue 2013, section 3.2).

    Attributes
    ----------
    theta
        (d,).
    height
        log p(y | theta*) + log p(theta*).
    covariance
        (d, d), the inverse of the negative Hessian.
    axes
        (d, d), its eigenvectors as columns, each times the root of its eigenvalue.
    left, right
        (d,).
    evaluations
        How often the density was computed on the way.
    converged
        Whether it is a stationary point.
    """

    theta: Array
    height: float
    covariance: Array
    axes: Array
    left: Array
    right: Array
    evaluations: int
    converged: bool

    def at(self, z: Array) -> Array:
        """Return the hyperparameters (…, d) at coordinates z (…, d)."""
        return np.asarray(self.theta + (np.where(z < 0.0, self.left, self.right) * z) @ self.axes.T)

    def coordinates(self, theta: Array) -> Array:
        """Return the coordinates z (…, d) of hyperparameters (…, d)."""
        if not len(self.theta):
            return np.asarray(theta, dtype=np.float64)
        s = np.linalg.solve(self.axes, (theta - self.theta)[..., None])[..., 0]
        return np.asarray(s / np.where(s < 0.0, self.left, self.right))

    @property
    def log_volume(self) -> float:
        """Log |axes|: of the map without its spreads."""
        return float(np.linalg.slogdet(self.axes)[1]) if len(self.theta) else 0.0

    def log_jacobian(self, z: Array) -> Array:
        """Return log |dtheta / dz| (…,); on a coordinate of zero the average of both sides."""
        sides = np.where(z < 0.0, self.left, np.where(z > 0.0, self.right, 0.5 * (self.left + self.right)))
        return np.asarray(self.log_volume + np.log(sides).sum(axis=-1))


def explore(field: Field, start: Array | None = None) -> Mode:
    """Climb to the mode by BFGS with the analytic gradient, then measure curvature and skewness there.

    The Hessian is that of central differences of the gradient. The field is left placed at the mode.

    Raises
    ------
    ArithmeticError
        If the density is not finite at the start.
    """
    d = field.size
    if d == 0:
        top = height(field, np.zeros(0))
        empty = np.zeros((0, 0))
        return Mode(np.zeros(0), top, empty, empty, np.zeros(0), np.zeros(0), 1, bool(np.isfinite(top)))
    theta, value, H, used, converged = _climb(field.evaluate, np.array(field.initial if start is None else start))
    covariance, more = _curvature(field.evaluate, theta, H)
    values, vectors = np.linalg.eigh(covariance)
    # signs by the largest entry, so that they do not hang on the linear algebra beneath
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(d)])
    axes = vectors * np.sqrt(values)
    left, right = np.ones(d), np.ones(d)
    for k in range(d):
        for side, out in ((-1.0, left), (1.0, right)):
            out[k], tried = _spread(field, theta, side * axes[:, k], -value)
            more += tried
    field.place(theta)
    return Mode(theta, -value, covariance, axes, left, right, used + more, converged)


def _climb(evaluate: Evaluate, start: Array) -> tuple[Array, float, Array, int, bool]:
    """Return the minimum of minus the log density, the value, the inverse Hessian learnt, the count and whether."""
    H = 0.3 * np.eye(len(start))
    used = 0
    for _ in range(3):
        state = new_descent(start, H)
        handed = packed(state)
        status = GOING
        while status == GOING:
            value, gradient = evaluate(state.trial)
            status = int(advance(handed, value if np.isfinite(value) else np.inf, np.asarray(gradient)))
        used += int(state.facts[EVALUATIONS])
        if not np.isfinite(state.facts[VALUE]):
            raise ArithmeticError("the density of the hyperparameters is not finite where the search begins")
        good = status == CONVERGED or 0.5 * state.facts[DECREMENT] < PROMISE
        if good:
            break
        start, H = state.x.copy(), 0.3 * np.eye(len(start))
    return state.x.copy(), float(state.facts[VALUE]), state.H.copy(), used, bool(good)


def _curvature(evaluate: Evaluate, theta: Array, H: Array) -> tuple[Array, int]:
    """Return the inverse of the Hessian by differences of gradients, positive definite, and the evaluations."""
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


def _spread(field: Field, theta: Array, axis: Array, top: float) -> tuple[float, int]:
    """Return the sd along half an axis that gives the fall of the log density seen there, and the evaluations."""
    spread = 1.0
    used = 0
    while used < 3:
        used += 1
        fall = top - height(field, theta + PROBE * spread * axis)
        # a normal density with this spread falls by one at the probe
        spread = min(max(spread / np.sqrt(max(fall, 0.04)), NARROWEST), WIDEST) if np.isfinite(fall) else NARROWEST
        if 0.5 < fall < 2.0 or spread in (NARROWEST, WIDEST):
            break
    return spread, used
