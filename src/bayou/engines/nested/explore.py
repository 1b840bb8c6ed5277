"""The mode of the hyperparameters and the coordinates around it in which their density is about standard normal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayou._types import Array
from bayou.conditional.field import GaussianField
from bayou.engines.nested.climb import Peak, climb, curvature
from bayou.engines.nested.height import height
from bayou.engines.nested.starts import peaks

__all__ = ["Mode", "explore"]

PROBE = np.sqrt(2.0)  # where skewness is measured: a normal density has fallen by one there
WIDEST, NARROWEST = 5.0, 0.2  # of the corrections for skewness
OUT, STEPS, LONGEST, STRAIGHT = 2.0, 3, 1.5, 0.1  # where the bend of an axis is seen, and the steps across it
FEW, SMALL = 3, 4000  # hyperparameters, rows and coefficients up to which axes are bent
BEND, SHARPEST = 0.5, 0.9  # how far from the mode the two spreads go over into each other; b / a at most


@dataclass(frozen=True, eq=False)
class Mode:
    """The top of log p(theta | y), and a map to it from coordinates z that are about standard normal.

    theta = theta* + axes s, s_k = a_k z_k + b_k (sqrt(BEND² + z_k²) − BEND) + Σ_i curve_ki phi(z_i): each principal
    axis has its own spread on either side (Martins, Simpson, Lindgren & Rue 2013, section 3.2), a and b such that these
    are ``left`` and ``right`` where they were measured, at z = ∓√2; and the wider axes i > k bend towards the narrower
    ones, on either side by its own number times phi(z) = z² / (√2 + |z|), along the ridge of the density (of an sd that
    may be zero: another takes over no more than there is). A hyperbola and not two straight lines: sums over a grid are
    good for smooth functions only.

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
    others
        Lower modes that count.
    curves
        (2, d, d) on the left and on the right, upper triangles; None for none.
    """

    theta: Array
    height: float
    covariance: Array
    axes: Array
    left: Array
    right: Array
    evaluations: int
    converged: bool
    others: tuple[Peak, ...] = ()
    curves: Array | None = None

    @cached_property
    def bends(self) -> tuple[Array, Array]:
        """The a and b (d,) of the map; b is cut where the map would nearly turn back."""
        a = 0.5 * (self.left + self.right)
        b = 0.5 * PROBE * (self.right - self.left) / (np.sqrt(BEND**2 + PROBE**2) - BEND)
        return a, np.clip(b, -SHARPEST * a, SHARPEST * a)

    def at(self, z: Array) -> Array:
        """Return the hyperparameters (…, d) at coordinates z (…, d)."""
        a, b = self.bends
        s = a * z + b * (np.sqrt(BEND**2 + np.square(z)) - BEND)
        if self.curves is not None:
            for side, curve in zip((z < 0.0, z >= 0.0), self.curves, strict=True):
                s = s + np.where(side, _phi(z), 0.0) @ curve.T
        return np.asarray(self.theta + s @ self.axes.T)

    def coordinates(self, theta: Array) -> Array:
        """Return the coordinates z (…, d) of hyperparameters (…, d)."""
        if not len(self.theta) or self.curves is None:
            return self.straight(theta)
        s = np.linalg.solve(self.axes, (theta - self.theta)[..., None])[..., 0]
        z = np.zeros_like(s)
        for k in range(len(self.theta) - 1, -1, -1):
            # the wider axes are known, the narrower ones have no part in it
            own = np.asarray(s[..., k], dtype=np.float64)
            for side, curve in zip((z < 0.0, z >= 0.0), self.curves, strict=True):
                own = own - np.where(side, _phi(z), 0.0) @ curve[k]
            z[..., k] = self._along(own, k)
        return z

    def straight(self, theta: Array) -> Array:
        """Return the coordinates z (…, d) that hyperparameters (…, d) would have if no axis were bent."""
        if not len(self.theta):
            return np.asarray(theta, dtype=np.float64)
        return self._along(np.asarray(np.linalg.solve(self.axes, (theta - self.theta)[..., None])[..., 0]), slice(None))

    def _along(self, s: Array, k: int | slice) -> Array:
        """Invert the hyperbola of axes k."""
        a, b = (one[k] for one in self.bends)
        w = s + b * BEND
        # of the two roots of the squared equation the one on the same branch
        return np.asarray((a * w - b * np.sqrt(np.square(w) + (a * a - b * b) * BEND**2)) / (a * a - b * b))

    @property
    def log_volume(self) -> float:
        """Log |axes|: of the map without its spreads."""
        return float(np.linalg.slogdet(self.axes)[1]) if len(self.theta) else 0.0

    def log_jacobian(self, z: Array) -> Array:
        """Return log |dtheta / dz| (…,) at coordinates z (…, d)."""
        a, b = self.bends
        return np.asarray(self.log_volume + np.log(a + b * z / np.sqrt(BEND**2 + np.square(z))).sum(axis=-1))


def explore(field: GaussianField, start: Array | None = None) -> Mode:
    """Climb to the highest mode by BFGS with the analytic gradient, then measure curvature and skewness there.

    The Hessian is that of central differences of the gradient. Further modes are looked for along the coordinates
    (`bayou.engines.nested.starts`). The field is left placed at the mode.

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
    begin = np.array(field.initial if start is None else start)
    first, used, converged = climb(field.evaluate, begin)
    assert first is not None
    covariance, more = curvature(field.evaluate, first.theta, first.covariance)
    best, others, looked = peaks(field, Peak(first.theta, first.height, covariance), begin)
    theta, value, covariance = best.theta, best.height, best.covariance
    more += looked
    values, vectors = np.linalg.eigh(covariance)
    # signs by the largest entry, so that they do not hang on the linear algebra beneath
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(d)])
    axes = vectors * np.sqrt(values)
    left, right = np.ones(d), np.ones(d)
    for k in range(d):
        for side, out in ((-1.0, left), (1.0, right)):
            out[k], tried = _spread(field, theta, side * axes[:, k], value)
            more += tried
    made = Mode(theta, value, covariance, axes, left, right, used + more, converged, others)
    if 1 < d <= FEW and field.model.design.n + field.count <= SMALL:
        curves, more = _curves(field, made)
        made = replace(made, curves=curves, evaluations=made.evaluations + more)
    field.place(theta)
    return made


def _phi(z: Array) -> Array:
    return np.asarray(np.square(z) / (PROBE + np.abs(z)))


def _curves(field: GaussianField, mode: Mode) -> tuple[Array, int]:
    """Return how the axes bend (2, d, d), and the evaluations: a few steps uphill, across each axis, far out on it.

    The steps are those of Newton's method with the curvature at the mode.
    """
    d = len(mode.theta)
    curves, used = np.zeros((2, d, d)), 0
    for k in range(1, d):
        for side, far in enumerate((-OUT, OUT)):
            z = np.zeros(d)
            z[k] = far
            at, moved = mode.at(z), np.zeros(d)
            value, gradient = field.evaluate(at)
            used += 1
            for _ in range(STEPS):
                if not np.isfinite(value):
                    break
                step = np.clip(-(gradient @ mode.axes), -LONGEST, LONGEST)
                step[k:] = 0.0
                if np.abs(step).max() < STRAIGHT:
                    break
                used += 1
                new, slope = field.evaluate(at + mode.axes @ (moved + step))
                if not new < value:
                    break
                moved, value, gradient = moved + step, new, slope
            curves[side, :, k] = moved / float(_phi(np.array(far)))
    return curves, used


def _spread(field: GaussianField, theta: Array, axis: Array, top: float) -> tuple[float, int]:
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
