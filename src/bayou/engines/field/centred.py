"""Hyperparameters given the coefficients, and scales with the coefficients carried along: cheap moves without a mode.

Where the data say little of single coefficients (few binary rows a level), the Gaussian of the coefficients is far
from the posterior and theta moves slowly with z held. Interweaving (Yu & Meng, JCGS 20, 2011) with two other
coordinates of the same posterior mixes there: x itself (theta then sees the prior of x alone) and x in units of its
sd (the data decide).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.field.gaussian_field import FARTHEST
from bayou.engines.field.slices import slice_step
from bayou.engines.field.target import Seat, Target
from bayou.families.rows import row_dispersion, row_log_density

if TYPE_CHECKING:
    from bayou.conditional.field import Field
    from bayou.conditional.field.component import Component

WIDTH, SCALE_WIDTH = 1.0, 0.5
LONGEST = 50.0  # of the logarithm of a factor


class Quadratic:
    """log p(x | theta) of one component in terms of Σ x'M_k x, for coefficients of which some are multiplied by s.

    Parameters
    ----------
    component
        The component.
    target
        The posterior that it is part of.
    """

    def __init__(self, component: Component, target: Target) -> None:
        self.component, self.target, effect = component, target, component.effect
        self.rows = np.asarray(effect.indices)
        self.columns = np.repeat(np.arange(effect.size), np.diff(effect.indptr))
        self.double = np.where(self.rows == self.columns, 1.0, 2.0)
        # for each coordinate that is a log sd: which coefficients of one copy it scales
        self.scaled: dict[int, Array] = {}
        for k, h in enumerate(effect.hyperparameters):
            if h.role != "sd":
                continue
            mine = np.zeros(effect.size)
            mine[k if component.grouping >= 0 else slice(0, effect.observed)] = 1.0
            touched = effect.constraints != 0.0
            whole = [bool(np.all(mine[row] == mine[row][0])) for row in touched]
            if all(whole):  # a constraint on coefficients that are scaled and others would be broken
                self.scaled[k] = mine

    def free(self, k: int) -> float:
        """Return how many dimensions of all copies the sd number k scales."""
        effect, mine = self.component.effect, self.scaled[k]
        lost = sum(bool(mine[row != 0.0].all()) for row in effect.constraints)
        return float(effect.replicates * (int(mine.sum()) - lost))

    def sums(self, x: Array, k: int | None = None) -> Array:
        """Return Σ x'M x (3, K) over the copies, by the power 0, 1 or 2 in which a scale of sd number k enters.

        Without k all of it stands in the row of power 0.
        """
        effect = self.component.effect
        own = x[self.component.place].reshape(effect.replicates, effect.size)
        products = self.double * np.einsum("ri,ri->i", own[:, self.rows], own[:, self.columns])
        if k is None:
            power = np.zeros(len(products), dtype=np.int64)
        else:
            mine = self.scaled[k]
            power = (mine[self.rows] + mine[self.columns]).astype(np.int64)
        return np.array([effect.matrices @ np.where(power == p, products, 0.0) for p in range(3)])

    def log_density(self, theta: Array, sums: Array, s: float = 1.0) -> float:
        """Return log p(x | theta) + log p(theta), up to a constant, with the scale s of what it was summed for."""
        effect = self.component.effect
        prior = self.component.log_prior(theta) if np.all(np.abs(theta) < FARTHEST) else -math.inf
        if not math.isfinite(prior):
            return -math.inf
        own = self.target.clipped(theta, self.component.hyper)
        c = effect.coefficients(own)
        quadratic = float(c @ (sums[0] + s * sums[1] + s * s * sums[2]))
        total = 0.5 * effect.replicates * float(effect.log_determinant(own)) - 0.5 * quadratic + prior
        return total if math.isfinite(total) else -math.inf


class Centred:
    """The moves of one chain.

    Parameters
    ----------
    target
        The posterior.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.quadratics = [Quadratic(c, target) for c in target.field.parts]
        self.nothing = np.zeros(len(target.start))

    def move(self, seat: Seat, other: Seat, rng: np.random.Generator) -> bool:
        """Move theta and x, and let ``other`` sit there; False if it cannot."""
        theta, x, field = seat.theta.copy(), seat.x.copy(), seat.field
        for quadratic in self.quadratics:
            self._given_coefficients(quadratic, theta, x, rng)
        for k, density in self._dispersions(field, theta, field.predictor(x)):
            theta[k], _ = slice_step(density, float(theta[k]), density(float(theta[k])), WIDTH, rng)
        x = self._scales(field, theta, x, rng)
        return other.sit_with(theta, x, rng.standard_normal(len(seat.z)))

    def _given_coefficients(self, of: Quadratic, theta: Array, x: Array, rng: np.random.Generator) -> None:
        """Draw the hyperparameters of a component given its coefficients, one at a time, in place."""
        own = theta[of.component.hyper]
        sums = of.sums(x)
        value = of.log_density(own, sums)
        for k in range(len(own)):

            def density(t: float, k: int = k) -> float:
                tried = own.copy()
                tried[k] = t
                return of.log_density(tried, sums)

            own[k], value = slice_step(density, float(own[k]), value, WIDTH, rng)

    def _scales(self, field: Field, theta: Array, x: Array, rng: np.random.Generator) -> Array:
        """Multiply the coefficients of each sd, and the sd with them, by a factor; theta in place, x returned."""
        dispersion, weights = self._rows(field, theta)
        base = field.predictor(self.nothing)
        eta = field.predictor(x)
        for of in self.quadratics:
            place, hyper = of.component.place, of.component.hyper
            for k in of.scaled:
                mask = np.zeros(len(x))
                mask[place] = np.tile(of.scaled[k], of.component.effect.replicates)
                part = field.predictor(x * mask) - base
                density = _Scale(of, k, theta[hyper], x, field, eta, part, dispersion, weights)
                t, _ = slice_step(density, 0.0, density(0.0), SCALE_WIDTH, rng)
                s = math.exp(t)
                theta[hyper.start + k] += t
                x = np.where(mask > 0.0, s * x, x)
                eta = eta + (s - 1.0) * part
        return x

    def _rows(self, field: Field, theta: Array) -> tuple[float, Array]:
        """Return the dispersion and the weights of the row kernels at theta."""
        if not field.levels:
            return field.row_dispersion, field.system.weights
        dispersion = np.exp(self.target.clipped(theta)[len(theta) - field.levels :])
        if not field.gaussian:
            return float(dispersion[0]), field.system.weights
        sigma = dispersion[self.target.model.design.sigma_codes]
        return 1.0, field.data_weights / np.square(sigma)

    def _dispersions(self, field: Field, theta: Array, eta: Array) -> Iterator[tuple[int, _Density]]:
        """Yield the position and the log density given eta of each logarithm of a dispersion."""
        for level in range(field.levels):
            yield len(theta) - field.levels + level, _Density(self.target, field, theta, eta, level)


class _Scale:
    """Log density of the logarithm t of a factor on an sd and the coefficients that it scales, up to a constant."""

    def __init__(
        self, of: Quadratic, k: int, theta: Array, x: Array, field: Field, eta: Array, part: Array, dispersion: float,
        weights: Array,
    ) -> None:  # fmt: skip
        self.of, self.k, self.theta, self.field = of, k, theta.copy(), field
        self.sums, self.free = of.sums(x, k), of.free(k)
        self.eta, self.part = eta, part
        self.dispersion, self.weights = dispersion, weights

    def __call__(self, t: float) -> float:
        if abs(t) > LONGEST:
            return -math.inf
        tried = self.theta.copy()
        tried[self.k] += t
        s = math.exp(t)
        prior = self.of.log_density(tried, self.sums, s)
        if not math.isfinite(prior):
            return -math.inf
        rows, lanes = self.field.system, self.field.point.lanes
        eta = self.eta + (s - 1.0) * self.part
        found = float(row_log_density(rows.code, rows.y, rows.trials, self.weights, eta, self.dispersion, lanes))
        return prior + self.free * t + found if math.isfinite(found) else -math.inf


class _Density:
    """Log density of the logarithm of one dispersion given the linear predictor, up to a constant."""

    def __init__(self, target: Target, field: Field, theta: Array, eta: Array, level: int) -> None:
        self.field, self.theta, self.eta = field, theta, eta
        self.at = len(theta) - field.levels + level
        self.limits = target.low[self.at], target.high[self.at]
        if field.gaussian:
            design, family = target.model.design, target.model.family
            mine = design.sigma_codes == level
            square = field.data_weights * np.square(design.y - family.mean(eta))
            self.count = float(np.sum(mine & (field.data_weights > 0.0))) + float(design.remainder.count[level])
            self.square = float(square[mine].sum()) + float(design.remainder.squares[level])

    def __call__(self, t: float) -> float:
        tried = self.theta.copy()
        tried[self.at] = t
        prior = float(self.field.log_prior(tried))
        if not math.isfinite(prior):
            return -math.inf
        t = float(np.clip(t, *self.limits))
        if self.field.gaussian:
            return prior - self.count * t - 0.5 * self.square * math.exp(-2.0 * t)
        s = self.field.system
        found = float(row_dispersion(s.code, s.y, s.trials, s.weights, self.eta, math.exp(t)))
        return prior + found if math.isfinite(found) else -math.inf
