"""The working response of a generalized linear mixed model, and its mixed model: what PQL iterates.

    y* = eta + D⁻¹(y − mu),   W = D' R⁻¹ D,   D = dmu/deta,   R = diag v(mu)

(Breslow & Clayton 1993, section 2; the combined equations [X'WX X'WZ; Z'WX Z'WZ + G⁻¹] of the mixed model). For
binomial rows mu counts successes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import brentq

from bayou._types import Array
from bayou.conditional.adjoint import leverages
from bayou.conditional.gaussian import Sums
from bayou.conditional.parameters import parameters
from bayou.conditional.rows import Sorted, accumulate, colour, deviation, predictor, sorted_rows
from bayou.engines.marginal.profile import Profile
from bayou.linalg.covariances import invert
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.families import Family
    from bayou.model import Model

TINY = 1e-300
STEEPEST = 30.0  # of a linear predictor in links whose means have edges


class Working(NamedTuple):
    """One linearisation of the rows."""

    mean: Array  # (n,)
    slope: Array  # (n,) dmu/deta
    variance: Array  # (n,) v(mu)
    weight: Array  # (n,) D² / v times the prior weights
    response: Array  # (n,) y* − offset


def linearise(family: Family, data: Sorted, eta: Array, dispersion: float | None) -> Working:
    """Return means, slopes, variances, weights and working responses at eta (n,)."""
    bounded = np.clip(eta, -STEEPEST, STEEPEST) if family.link.name != "identity" else eta
    if family.link.name == "log":
        bounded = eta
    mean, slope = family.mean(bounded), family.link.derivative(bounded)
    variance = family.variance(mean, dispersion)
    if family.name in ("bernoulli", "binomial"):
        mean, slope, variance = (data.trials * x for x in (mean, slope, variance))
    variance, slope = np.maximum(variance, TINY), np.maximum(slope, TINY)
    weight = data.weights * np.square(slope) / variance
    return Working(mean, slope, variance, weight, bounded + (data.y - mean) / slope - data.offset)


class WorkingModel(Profile):
    """The mixed model of the working response, refilled at each linearisation.

    Parameters
    ----------
    model
        The model.
    restricted
        REML or ML for the variance components.
    known
        The residual variance phi where it is given, 0 where it is estimated.
    """

    def __init__(self, model: Model, restricted: bool, known: float) -> None:
        self.model, self.restricted = model, restricted
        self.data: Sorted = sorted_rows(model)
        self.order = self.data.order
        scale = deviation(model, self.data) if known and model.family.link.name == "identity" else 1.0
        self.numbers = parameters(model, self.order, scale or 1.0)
        border = self.data.border
        P = len(border.linear)
        border = border._replace(precision=np.zeros((P, P)), linear=np.zeros(P))
        numbers = self.numbers
        self.left = model.design.remainder
        used = float(np.sum(self.data.weights > 0.0)) + float(self.left.count.sum())
        places = numbers.factor, numbers.row, numbers.column, numbers.unit
        self._take(Sums(self.data.arrow, border, np.zeros(1), used, known, *places))
        self._rows = packed(self.data.rows)
        self.shift: float = 0.0  # what was taken off the working response
        self._b, self._rest = np.zeros_like(self.work.u), np.zeros_like(self.work.rest)

    def fill(self, working: Working) -> None:
        """Take the sums of the working regression, less what an intercept can take: squares then do not cancel."""
        place = self.model.working.intercept
        linear = self.sums.border.linear
        if place is not None and np.sum(working.weight) > 0.0:
            shift = float(np.average(working.response, weights=working.weight))
            linear += (self.shift - shift) * self.sums.border.precision[:, place]
            self.shift = shift
        response = working.response - self.shift
        weighted = working.weight * response
        accumulate(self._rows, working.weight, weighted, self.data.rows.others.shape[1], self.packed_parts[0])
        self.sums.squares[0] = float(weighted @ response) + float(self.left.squares.sum())
        self._at = None

    def eta(self, groups: bool) -> Array:
        """Return the linear predictor (n,) at the last solution, with or without the group coefficients."""
        arrow, border, _ = self.packed_parts
        colour(border, self.work.T, self.work.u, self.work.rest, self._b, self._rest)
        if not groups:
            self._b[:] = 0.0
            self._rest[: self.sums.border.fixed] = 0.0
        eta = self.data.offset + self.shift
        predictor(self._rows, self._b, self._rest, self.data.rows.others.shape[1], eta)
        return eta

    def prediction_errors(self, working: Working) -> Array:
        """Return PEV(y − mu) (n,) = d² a' LHS⁻¹ a, in units of the residual variance."""
        R = len(self.work.rest)
        p, q = self.work.u.shape[1], self.data.rows.others.shape[1]
        invert(self.work.factor.S, R, self.work.inverse.V)
        out = np.empty(len(self.data.y))
        arrow, border, factor = self.packed_parts
        inverse, z = packed(self.work.inverse), np.zeros(p + q)
        leverages(self._rows, arrow, border, factor, R, q, self.work.T, inverse, z, out)
        return np.asarray(np.square(working.slope) * out)


def solve_dispersion(data: Sorted, working: Working, errors: Array) -> float:
    """Return phi of v(mu, phi) = mu + mu²/phi by the equation of squared residuals and prediction errors.

    Σ e'Q e = Σ tr[Q (v − PEV(e))], Q = v⁻¹ (dv/dphi) v⁻¹. Infinite where the residuals vary no more than Poisson's.
    """
    mean, square = working.mean, np.square(data.y - working.mean)

    def excess(log_phi: float) -> float:
        phi = np.exp(log_phi)
        v = mean + np.square(mean) / phi
        Q = data.weights * np.square(mean / v)
        return float(np.sum(Q * (square - v + errors)))

    low, high = np.log(1e-8), np.log(1e8)
    if excess(high) <= 0.0:
        return np.inf
    if excess(low) >= 0.0:
        return float(np.exp(low))
    return float(np.exp(brentq(excess, low, high, xtol=1e-12)))
