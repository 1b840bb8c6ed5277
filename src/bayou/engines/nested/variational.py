"""The variational correction of the mean of the Gaussian of x given theta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from bayou._types import Array
from bayou.conditional.hermite import normal_rule

if TYPE_CHECKING:
    from bayou.conditional.field import Field
    from bayou.engines.nested.likelihood import Likelihood

__all__ = ["Tilt", "corrected_mean", "farthest", "force", "settle"]

RULE = normal_rule(9)
LIMIT, SETTLED = 30, 1e-5  # iterations; movement, in sds of the predictor


class Tilt(Protocol):
    """A mean on its way, among rows that are here or elsewhere."""

    def look(self) -> float:
        """Find the next step; returns how far it moves a row's predictor at most, in its sds (NaN where it is lost)."""

    def go(self, size: float) -> None:
        """Take so much of the step."""


def settle(tilt: Tilt) -> bool:
    """Take steps, halved when they overshoot, until the mean stands; returns whether it does."""
    size, last = 1.0, np.inf
    for _ in range(LIMIT):
        moved = tilt.look()
        if not np.isfinite(moved):
            return False
        if moved > last:
            size *= 0.5
        last = moved
        tilt.go(size)
        if moved < SETTLED:
            return True
    return bool(last < 1e-3)


def force(
    rows: Likelihood, dispersion: Array | None, there: tuple[Array, Array, Array], shift: Array, sd: Array
) -> Array:
    """Return r (n,) of `corrected_mean` with the predictor's mean moved by shift (n,).

    ``there`` holds eta*, the gradients l' and the curvatures W at the mode.
    """
    eta, gradient, curvature = there
    expected, _ = rows.expected_derivatives(eta + shift, sd, dispersion, RULE)
    return np.asarray(expected - gradient + curvature * shift)


class RowTilt:
    """The mean of a field whose rows are here."""

    def __init__(self, field: Field, rows: Likelihood, dispersion: Array | None, sd: Array) -> None:
        self.field, self.rows, self.dispersion, self.sd = field, rows, dispersion, sd
        self.move, self.shift = np.zeros_like(field.x), np.zeros_like(field.eta)
        self.there = field.eta, field.point.gradient, field.point.weight

    def look(self) -> float:
        """Find the next step; see `Tilt`."""
        field = self.field
        self.r = force(self.rows, self.dispersion, self.there, self.shift, self.sd)
        if not np.isfinite(self.r).all():
            return np.nan
        self.step = field.solve(field.project(self.r)) - self.move
        self.seen = field.predictor(field.x + self.step) - field.eta
        return farthest(self.seen, self.sd)

    def go(self, size: float) -> None:
        """Take so much of the step."""
        self.move += size * self.step
        self.shift += size * self.seen


def farthest(seen: Array, sd: Array) -> float:
    """Return the largest move of a predictor, in its sds."""
    return float(np.max(np.abs(seen) / np.maximum(sd, 1e-12), initial=0.0))


def corrected_mean(
    field: Field, rows: Likelihood, dispersion: Array | None, row_sd: Array
) -> tuple[Array, Array, bool]:
    """Return the move d (N,) of the mean that brings the Gaussian nearest to p(x | theta, y), r (n,), and whether.

    The covariance Sigma stays that of Laplace's approximation; the mean mu = x* + d minimises the Kullback-Leibler
    divergence, −Σ_i E l_i(eta_i) + ½ (mu − m)'Q(mu − m) with eta_i ~ N((A mu)_i, s_i²). Its gradient at the mode x*,
    where A'l' = Q(x* − m), is zero when

        d = Sigma A'r,    r = E l'(eta* + A d) − l'(eta*) + W A d,    W = −l''(eta*),

    which is solved by Newton steps with Sigma in place of the inverse of A'E(−l'')A + Q, halved when they overshoot.
    All of x is corrected, through the same solve that made the mode. Source: van Niekerk & Rue (2024), *Low-rank
    variational Bayes correction to the Laplace method*, JMLR 25, without the low rank.

    Parameters
    ----------
    field
        Placed at theta.
    rows, dispersion
        The likelihood, and its dispersions (n,) at theta.
    row_sd
        Standard deviations s (n,) of the predictor.

    Returns
    -------
    d, r, and whether the iteration settled; zeros where it did not, and for a Gaussian response.
    """
    if not rows.gaussian:
        tilt = RowTilt(field, rows, dispersion, row_sd)
        if settle(tilt):
            return tilt.move, tilt.r, True
    return np.zeros_like(field.x), np.zeros_like(field.eta), rows.gaussian
