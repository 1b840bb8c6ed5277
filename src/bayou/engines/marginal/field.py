"""Models with structured effects, maximised: the criterion over `Field`, its borders, and the way to its maximum.

Hyperparameters move on coordinates without borders (log sd, logit or atanh of a correlation), where a maximum at the
border is infinitely far away. Each coordinate is therefore held within a range whose ends stand for the border: a
correlation or share within a millionth of its end for that end, and for zero an sd whose variance is a millionth of
what the data tell about one coefficient. Smaller ones would change the log likelihood by less than rounding does: a
precision that much larger than the data's leaves them no digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayou import binding
from bayou._types import Array
from bayou.conditional.field import Field
from bayou.conditional.prior import log_prior
from bayou.engines.marginal.climb import Maximum, descend
from bayou.engines.marginal.singular import PROBE, SLACK, SUSPECT
from bayou.engines.starts import response_scale, starting_theta

if TYPE_CHECKING:
    from bayou.model import Model

LEAST = 1e-6  # of an sd in its unit, and of how far a share or correlation stays from its ends
REMOTE = 1e-3  # an sd beside the standard error that the data alone give one coefficient, for zero
LARGE = 1e6  # a dispersion this many times the largest response (phi, shape), or sd in its unit
ROUNDS = 4  # descents, each from a border that was left or taken
ROUNDING = 1e-13  # share of the criterion that is noise
STEP = 1e-5  # of the differences that give the slopes of a prior's density


@dataclass(frozen=True)
class Coordinate:
    """One internal coordinate of theta: what it is, and the range that stands for all of it."""

    kind: str  # "sd", "cor", "share", "dispersion"
    scale: str  # "log", "logit", "atanh"
    low: float
    high: float
    suspect: float  # below this the lower end is tried; −inf where it is no border
    over: float  # above this the upper end is tried; inf where it is none
    needs: tuple[int, ...] = ()  # sds (positions) without which it means nothing


def coordinates(model: Model) -> list[Coordinate]:
    """List the coordinates of theta: blocks of the groupings, structured effects, dispersions."""
    s = response_scale(model)
    far, near = float(np.log1p(-LEAST) - np.log(LEAST)), float(np.log1p(-SUSPECT) - np.log(SUSPECT))
    shares = Coordinate("share", "logit", -far, far, -near, near)
    correlations = Coordinate("cor", "atanh", -0.5 * far, 0.5 * far, -0.5 * near, 0.5 * near)
    out: list[Coordinate] = []

    def sd(unit: float) -> Coordinate:
        log = np.log(unit)
        return Coordinate("sd", "log", log + np.log(LEAST), log + np.log(LARGE), log + np.log(SUSPECT), np.inf)

    for block in model.bound.blocks:
        first = len(out)
        for column in block.columns:
            size = model.design.moments.size(block.grouping, column)
            out.append(sd(s / (size if size > 0.0 else 1.0)))
        for i in range(1, len(block.columns)):
            for j in range(i):
                out.append(Coordinate(**{**vars(correlations), "needs": (first + i, first + j)}))
    for effect in model.effects:
        first = len(out)
        for h in effect.hyperparameters:
            if h.scale == "log":
                out.append(sd(s))
            else:
                like = shares if h.scale == "logit" else correlations
                out.append(Coordinate(**{**vars(like), "needs": (first,)}))
    if model.family.dispersion is not None and not model.dispersion_known:
        unit = s if model.family.dispersion == "sigma" else max(float(np.abs(model.design.y).max()), 1.0)
        high = float(np.log(LARGE * unit))
        over = np.log(1e3 * unit) if model.family.dispersion == "phi" else np.inf
        low = float(np.log(1e-8 * min(unit, 1.0) if model.family.dispersion != "sigma" else 1e-8 * unit))
        for _ in model.design.sigma_levels:
            out.append(Coordinate("dispersion", "log", low, high, -np.inf, over))
    return out


class Criterion:
    """Minus the log marginal likelihood, less the log prior densities if there are any, in (beta, theta).

    Fixed effects that are not integrated out come first, in the units of `Field`. The densities are
    those of what the priors speak of (sds, correlations, …), without the Jacobian of the coordinates.

    Parameters
    ----------
    model
        The model.
    restricted
        Integrate the fixed effects out.
    """

    def __init__(self, model: Model, restricted: bool) -> None:
        self.model, self.restricted, self.priors = model, restricted, model.priors_given
        gaussian = self.priors and not len(model.working.codes)
        self.whole = Field(model, integrated=True, priors=gaussian)
        self.field = self.whole if restricted else Field(model, integrated=False, priors=False)
        self.coordinates = coordinates(model)
        self.P = 0 if restricted else model.working.X.shape[1]
        self.size = self.P + len(self.coordinates)
        self.low = np.concatenate([np.full(self.P, -np.inf), [c.low for c in self.coordinates]])
        self.high = np.concatenate([np.full(self.P, np.inf), [c.high for c in self.coordinates]])

    def measure(self, psi: Array) -> Array:
        """Set which sds stand for zero, by the curvature of the likelihood at the mode given psi.

        Returns psi, with what stood for zero where it now does.
        """
        if not self.place(psi):
            return psi
        zero = psi <= self.low
        field, at = self.field, 0
        W = np.maximum(field.row_derivatives(field.eta)[2], 0.0)
        for part in field.parts:
            for i, h in enumerate(part.effect.hyperparameters):
                if h.role == "sd":
                    z: Array | float = 1.0
                    if part.grouping >= 0:
                        z = self.model.design.groupings[part.grouping].Z[:, part.columns[i]]
                    information = float(np.sum(W * np.square(z))) / max(part.size // max(len(part.columns), 1), 1)
                    c = self.coordinates[at]
                    least = c.suspect + np.log(LEAST / SUSPECT)
                    wanted = np.log(REMOTE) - 0.5 * np.log(information) if information > 0.0 else np.inf
                    low = float(np.clip(wanted, least, c.suspect + np.log(0.1)))
                    self.coordinates[at] = replace(c, low=low)
                    self.low[self.P + at] = low
                at += 1
        return np.where(zero, self.low, psi)

    def start(self) -> Array:
        """Return where to begin: the hyperparameters' own starting values, fixed effects at the joint mode there."""
        start = starting_theta(self.whole) if self.priors else np.asarray(self.whole.initial)
        theta = np.clip(start, self.low[self.P :], self.high[self.P :])
        if not self.P:
            return theta
        self.whole.place(theta)
        return np.concatenate([self.whole.x[self.whole.columns["beta"]] / self.field.beta_unit, theta])

    def inside(self, psi: Array) -> Array:
        """Return the parameters (beta, theta) held within their ranges."""
        return np.asarray(np.clip(psi, self.low, self.high))

    def place(self, psi: Array) -> bool:
        """Find the mode at psi and factorise there."""
        return bool(self.field.place(self.inside(psi)))

    def evaluate(self, psi: Array) -> tuple[float, Array]:
        """Return the value and gradient (d,) at psi; infinite where it cannot be computed."""
        own = self.inside(psi)
        if not self.field.place(own):
            return np.inf, np.zeros(self.size)
        value, slopes = -float(self.field.value()), -np.asarray(self.field.slopes())
        if self.priors:
            value -= self.log_prior(own)
            slopes = slopes - self._prior_slopes(own)
        held = (psi < self.low) | (psi > self.high)
        return value, np.where(held, 0.0, slopes)

    def log_prior(self, own: Array) -> float:
        """Return the log density of fixed effects that are not integrated out, sds, correlations and dispersions."""
        beta, theta = own[: self.P], own[self.P :]
        model, total = self.model, 0.0
        if self.P:
            printed = model.working.to_printed @ (beta * self.field.beta_unit)
            total += float(binding.log_density_beta(model.bound, printed))
        K = len(model.design.groupings)
        p = max((g.Z.shape[1] for g in model.design.groupings), default=1)
        T, at = np.zeros((K, p, p)), 0
        for block in model.bound.blocks:
            q = len(block.columns)
            size = q * (q + 1) // 2
            T[np.ix_([block.grouping], block.columns, block.columns)] = _factor(theta[at : at + size], q)
            at += size
        for priors, effect in zip(model.bound.structured, model.effects, strict=True):
            for prior, h in zip(priors, effect.hyperparameters, strict=True):
                jacobian = float(np.log(abs(h.slope(theta[at]))))
                total += binding.log_density_structured(prior, h, float(theta[at])) - jacobian
                at += 1
        return total + log_prior(model, tuple(range(K)), T, np.exp(theta[at:]))

    def _prior_slopes(self, own: Array) -> Array:
        """Return the gradient (d,) of `log_prior` by central differences."""
        out = np.empty(self.size)
        for i in range(self.size):
            step = np.zeros(self.size)
            step[i] = STEP * max(1.0, abs(own[i]))
            out[i] = (self.log_prior(own + step) - self.log_prior(own - step)) / (2.0 * step[i])
        return out


def _factor(t: Array, p: int) -> Array:
    """Return the lower factor (p, p) of a covariance from log sds and atanh partial correlations, row by row."""
    L, at = np.zeros((p, p)), p
    for i in range(p):
        left = 1.0
        for j in range(i):
            rho = np.tanh(t[at])
            L[i, j] = rho * np.sqrt(left)
            left *= 1.0 - rho * rho
            at += 1
        L[i, i] = np.sqrt(left)
    return np.asarray(np.exp(t[:p])[:, None] * L)


def maximum(of: Criterion) -> tuple[Maximum, NDArray[np.bool_]]:
    """Return the maximum of a criterion, and which parameters (d,) are free there: not at a border.

    When it returns, the last evaluation was at the maximum.
    """
    psi = of.start()
    free = np.ones(of.size, dtype=bool)
    H = np.eye(of.size)
    iterations = 0
    found = Maximum(psi, np.inf, False, 0, np.inf, H)
    for _ in range(ROUNDS):
        psi = of.measure(psi)
        found = _among(of, psi, H, free)
        iterations += found.iterations
        if not np.isfinite(found.value):
            break
        settled, free = _settled(of, found, free)
        left = _left(of, settled, free)
        if left is not None:
            psi, free = left, np.ones(of.size, dtype=bool)
        elif np.array_equal(settled, found.psi):
            break
        else:
            psi = settled
        H = found.H
    psi = np.clip(found.psi, of.low, of.high)
    value = of.evaluate(psi)[0]
    return Maximum(psi, value, found.converged, iterations, found.promise, found.H), free


def _among(of: Criterion, psi: Array, H: Array, free: NDArray[np.bool_]) -> Maximum:
    """Descend in the free parameters, with the others held."""

    def evaluate(some: Array) -> tuple[float, Array]:
        whole = psi.copy()
        whole[free] = some
        value, gradient = of.evaluate(whole)
        return value, np.ascontiguousarray(gradient[free])

    value = of.evaluate(psi)[0]
    noise = ROUNDING * (1.0 + abs(value)) if np.isfinite(value) else 0.0
    found = descend(evaluate, psi[free], H[np.ix_(free, free)], noise)
    whole, back = psi.copy(), np.eye(of.size)
    whole[free] = found.psi
    back[np.ix_(free, free)] = found.H
    whole = np.clip(whole, of.low, of.high)
    return Maximum(whole, found.value, found.converged, found.iterations, found.promise, back)


def _settled(of: Criterion, found: Maximum, free: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    """Set to the border what is near it and loses nothing there; returns psi and what is still free."""
    psi, value, free = found.psi.copy(), found.value, free.copy()
    for k, c in enumerate(of.coordinates):
        i = of.P + k
        ends = [c.low] if psi[i] < c.suspect else [c.high] if psi[i] > c.over else []
        for end in ends:
            tried = psi.copy()
            tried[i] = end
            new = of.evaluate(tried)[0]
            if new <= value + SLACK:
                psi, value, free[i] = tried, min(new, value), False
    for k, c in enumerate(of.coordinates):
        if any(not free[of.P + need] for need in c.needs):
            free[of.P + k] = False  # the correlation of something that does not vary
    return psi, free


def _left(of: Criterion, psi: Array, free: NDArray[np.bool_]) -> Array | None:
    """Return a point with a lower value where an sd now zero is not, or None: a border may be a saddle."""
    value = of.evaluate(psi)[0]
    for k, c in enumerate(of.coordinates):
        if c.kind == "sd" and not free[of.P + k]:
            tried = psi.copy()
            tried[of.P + k] = c.suspect + np.log(PROBE / SUSPECT)
            if of.evaluate(tried)[0] < value - SLACK:
                return tried
    return None
