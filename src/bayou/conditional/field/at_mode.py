"""The Gaussian of all coefficients at the mode that a `Field` has found, and the exact densities beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.field.adjoint import Adjoint, invert, solve, variances
from bayou.conditional.field.draws import Root, draws, log_ratios
from bayou.conditional.field.gaussian_field import GaussianField
from bayou.conditional.field.layout import Layout
from bayou.conditional.field.mode import Point, System, penalty, quadratic_slope
from bayou.conditional.field.rows import predictor, project
from bayou.families.rows import row_derivatives, row_dispersion, row_log_density
from bayou.linalg.sparse import forward
from bayou.packed import part
from bayou.priors.base import LOG_2PI

if TYPE_CHECKING:
    from bayou.families import Family


class AtMode(GaussianField):
    """What can be asked of x given theta and y once the mode is found among rows that are here; `Field` finds it."""

    layout: Layout
    system: System
    point: Point
    work: Adjoint
    data_weights: Array
    _packed: tuple[Any, Any, Any]
    _inverted: bool
    _root: Root | None
    _log_dets: float
    _constant: float | None

    # ---- the Gaussian ----------------------------------------------------------------------

    @property
    def x(self) -> Array:
        """The mode (N,)."""
        return self.point.x

    @property
    def eta(self) -> Array:
        """The linear predictor (n,) at the mode."""
        return self.point.eta

    def variances(self) -> Array:
        """Return the variances (N,) of the coefficients."""
        self._invert()
        out = np.empty(len(self.point.x))
        variances(self._packed[0], self._packed[2], out)
        return out

    def row_variances(self) -> Array:
        """Return the variances (n,) of the linear predictor."""
        self._invert()
        return self.work.leverage.copy()

    def row_slopes(self) -> Array:
        """Return −l''' (n,) of each row at the mode."""
        self.slopes()
        return self.work.slope

    def solve(self, r: Array) -> Array:
        """Return Sigma r for r (N,) or each row of r (S, N)."""
        out = np.array(r, dtype=np.float64, order="C")
        system = self._packed[0]
        parts = part(system, "symbolic"), part(system, "factor"), part(system, "constraint")
        for row in out[None] if out.ndim == 1 else out:
            solve(*parts, self.point.ordered, row)
        return out

    def predictor(self, x: Array) -> Array:
        """Return eta (n,) at coefficients x (N,), or (S, n) at each row of x (S, N)."""
        x = np.ascontiguousarray(x)
        eta = np.tile(self.point.fixed, (*x.shape[:-1], 1)) if x.ndim > 1 else self.point.fixed.copy()
        rows = part(self._packed[0], "rows")
        for at, to in [(x, eta)] if x.ndim == 1 else zip(x, eta, strict=True):
            predictor(rows, at, to)
        return eta

    def row_derivatives(self, eta: Array) -> tuple[Array, Array, Array]:
        """Return each row's log likelihood up to what eta leaves alone, its gradient and curvature −l'' at eta (n,)."""
        s = self.system
        value, first, second = np.empty_like(eta), np.empty_like(eta), np.empty_like(eta)
        row_derivatives(
            self.code, s.y, s.trials, s.weights, np.ascontiguousarray(eta), self.row_dispersion, value, first, second
        )
        return value, first, second

    def project(self, r: Array) -> Array:
        """Return A' r (N,) for r (n,)."""
        out = np.zeros(len(self.point.x))
        project(part(self._packed[0], "rows"), np.ascontiguousarray(r), out)
        return out

    @property
    def dimension(self) -> int:
        """How many standard normals a draw is made of."""
        return len(self.point.x) + len(self.system.constraint.anchor)

    def transform(self, Z: Array) -> Array:
        """Return the coefficients (S, N) that standard normals (S, dimension) stand for: mode + root z."""
        if self._root is None:
            self._root = Root(self.system.constraint)
        N = len(self.point.x)
        X = np.empty((len(Z), N))
        draws(self._packed[0], np.array(Z[:, :N], dtype=np.float64, order="C"), X)
        self._root.finish(X, Z[:, N:])
        X += self.point.x
        return X

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Draw the coefficients, (count, N)."""
        return self.transform(rng.standard_normal((count, self.dimension)))

    def whiten(self, x: Array, Z: Array) -> Array:
        """Return standard normals (dimension,) that `transform` turns into x (N,), drawn given x.

        The map has more normals than coefficients where there are constraints; Z (dimension,) are the standard normals
        that decide among them.
        """
        d = x - self.transform(Z[None])[0]
        slope = self.project(self.point.weight * (self.predictor(x) - self.predictor(x - d)))
        quadratic_slope(part(self._packed[0], "prior"), d, slope)
        assert self._root is not None
        N = len(d)
        first, second = self._root.transposed(slope)
        out = np.empty(N)
        system = self._packed[0]
        forward(part(system, "symbolic"), part(system, "factor"), first, out)
        return np.asarray(Z + np.concatenate([out, second]))

    def _invert(self) -> None:
        if not self._inverted:
            invert(self._packed[0], self._packed[2])
            self._inverted = True

    # ---- the exact densities ---------------------------------------------------------------

    @property
    def row_dispersion(self) -> float:
        """The dispersion for the row kernels: sigma is in the weights."""
        return float(self.dispersion[0]) if self.levels and not self.gaussian else 1.0

    def _log_density(self, kernel_sum: float, eta: Array) -> float:
        """Return the log likelihood at eta from what the row kernels sum up."""
        if self.levels and self.gaussian:
            counted = np.bincount(
                self.model.design.sigma_codes, weights=self.data_weights > 0.0, minlength=self.levels
            )
            kernel_sum -= float(counted @ np.log(self.dispersion))
            kernel_sum += self.model.design.remainder.log_density(self.dispersion)
        elif self.gaussian:
            kernel_sum += self.model.design.remainder.log_density(np.ones(1))
        elif self.levels:
            s = self.system
            kernel_sum = float(row_dispersion(self.code, s.y, s.trials, s.weights, eta, self.row_dispersion))
        return kernel_sum + self.constant

    @property
    def constant(self) -> float:
        """What the kernels leave out of the log likelihood: it depends on the responses alone."""
        if self._constant is None:
            s = self.system
            left_out = self.model.design.remainder.constant
            self._constant = row_constant(self.family, s.y, s.trials, self.data_weights) + left_out
        return self._constant

    def log_ratio(self, X: Array) -> Array:
        """Return log p(y, x | theta) − log of the Gaussian's density at each row of X (S, N).

        Its exponential has mean p(y | theta) under the Gaussian; for a Gaussian response it is constant.
        """
        X = np.ascontiguousarray(X)
        out, eta = np.empty(len(X)), np.empty(len(self.point.eta))
        log_ratios(self._packed[0], self._packed[1], self.row_dispersion, X, eta, out)
        loglik, penalised, _ = self.point.facts
        out += self.value() - (loglik - penalised)
        for i in range(len(self._bounded)):
            k = self.latent + self.fixed - len(self._bounded) + i
            a, b, _ = self.model.working.parameters[i]
            out[(X[:, k] < a) | (X[:, k] > b)] = -np.inf
        return out

    def log_joint(self, x: Array) -> float:
        """Return log p(y | x, theta) + log p(x | theta), x (N,) on the subspace of the constraints."""
        s, eta = self.system, self.predictor(x)
        rows = row_log_density(self.code, s.y, s.trials, s.weights, eta, self.row_dispersion, self.point.lanes)
        total = self._log_density(float(rows), eta) + self._log_dets + self._fixed_constant
        for i in range(len(self._bounded)):
            a, b, _ = self.model.working.parameters[i]
            if not a <= x[len(x) - len(self._bounded) + i] <= b:
                return -math.inf
        return float(total - penalty(part(self._packed[0], "prior"), np.ascontiguousarray(x)))

    def log_gaussian(self, x: Array) -> float:
        """Return the log density of the Gaussian at x (N,), on the subspace of the constraints."""
        d = x - self.point.x
        eta = self.predictor(x) - self.point.eta
        prior: Any = part(self._packed[0], "prior")
        half = float(penalty(prior, np.ascontiguousarray(d)) + self.system.prior.linear @ d)
        half += 0.5 * float(self.point.weight @ np.square(eta))
        free = len(d) - len(self.system.constraint.anchor)
        return 0.5 * float(self.point.facts[2]) - 0.5 * free * LOG_2PI - half


def row_constant(family: Family, y: Array, trials: Array, weights: Array) -> float:
    """Return what the row kernels leave out of the log likelihood: it depends on the responses alone."""
    eta = family.link(np.full(len(y), 0.5)) + np.zeros(len(y))  # near the responses, where little cancels
    if family.link.name == "identity":
        eta = y.copy()
    elif family.link.name == "log":
        eta = np.log(np.maximum(y, 0.5))
    whole = family.log_density(y, eta, 1.0, trials, weights)
    some = row_dispersion(family.code, y, trials, weights, eta, 1.0)
    return float(np.sum(whole) - some)
