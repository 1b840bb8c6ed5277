"""log p(y | beta, theta) of a model with one grouping factor by adaptive Gauss-Hermite quadrature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.hermite import hermite_grid
from bayou.conditional.laplace import Laplace
from bayou.conditional.levels import FactorRows, new_level_work, new_levels
from bayou.conditional.quadrature import quadrature
from bayou.families.rows import row_dispersion, row_log_density
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["AdaptiveQuadrature"]


class AdaptiveQuadrature(Laplace):
    """The likelihood of one model with its coefficients integrated out over nodes around their modes.

    It takes the place of a `Laplace`: the same parameters, the same Gaussian of the coefficients at the mode; its
    value and gradient are those of the quadrature. One node gives those of the Laplace approximation.

    Parameters
    ----------
    model
        A model with one grouping factor.
    nodes
        How many, in each dimension.
    priors
        As of `Laplace`.

    Attributes
    ----------
    states
        Modes (J, p) in u, b = T u, and lower factors (J, p, p) of the curvatures there.
    """

    def __init__(self, model: Model, nodes: int, priors: bool = False) -> None:
        super().__init__(model, integrated=False, priors=priors)
        data = self.data
        J, p = data.arrow.a.shape
        n = len(data.y)
        # fixed and weights are those that `Laplace` fills
        rows = FactorRows(
            self.code, data.rows.start, data.y, data.trials, self.system.weights, self.point.fixed, data.rows.Z
        )
        self.states = new_levels(J, p)
        work = new_level_work(data.rows.start, p)
        self._parts = packed(rows), packed(self.states), packed(work)
        self._grid = hermite_grid(nodes, p)
        self.in_eta, self.in_T, self.in_dispersion = np.zeros(n), np.zeros((p, p)), np.zeros(n)
        self._zeros = np.zeros(n)
        self._scratch = np.empty(512)
        self._value = np.nan

    def again(self, integrated: bool) -> Laplace:
        """Return Laplace's approximation of the same model: what is integrated beyond groups takes no nodes."""
        return Laplace(self.model, integrated, self.priors, self.data)

    def forget(self) -> None:
        """Start the next search for the modes at zero."""
        super().forget()
        self.states.u[:] = 0.0

    def integrate(self) -> bool:
        """Integrate at the present parameters, with derivatives; False where a mode was not found."""
        self._value = self._run(*self._grid)
        return bool(np.isfinite(self._value))

    def _run(self, points: Array, log_weights: Array, slopes: bool = True) -> float:
        rows, states, work = self._parts
        return float(
            quadrature(
                rows, points, log_weights, self.T[0], self.row_dispersion, 0, len(self.states.u), states, work,
                slopes, self.in_eta, self.in_T, self.in_dispersion,
            )
        )  # fmt: skip

    def change(self, nodes: int) -> float:
        """Return what another number of nodes would add to the log likelihood where it was integrated last."""
        self.fix()
        return self._run(*hermite_grid(nodes, self.in_T.shape[0]), slopes=False) - self._value

    def place(self, psi: Array) -> bool:
        """Find the mode of all coefficients at psi, and integrate around it; False where there is none to be found."""
        return super().place(psi) and self.integrate()

    def locate(self, psi: Array) -> bool:
        """Integrate at psi; False where a mode was not found."""
        return self.settle(psi) and self.integrate()

    def value(self) -> float:
        """Return the log likelihood where it was integrated last, every constant in."""
        return float(self._value + self._dispersion_terms() + self.constant)

    def _dispersion_terms(self) -> float:
        if not self.levels or self.gaussian:
            return super()._dispersion_terms()
        data, eta = self.data, self._zeros
        rows = data.y, data.trials, data.weights, eta, self.row_dispersion
        return float(row_dispersion(self.code, *rows) - row_log_density(self.code, *rows, self._scratch))

    def slopes(self) -> Array:
        """Return the gradient (size,) of `value` in psi."""
        numbers = self.numbers
        parts = [(self.X.T @ self.in_eta) * self.beta_unit, self.in_T[numbers.row, numbers.column] * numbers.unit]
        if self.levels:
            by_level = np.asarray(np.bincount(self.data.sigma, self.in_dispersion, self.levels), dtype=np.float64)
            left = self.model.design.remainder.slopes(self.dispersion) if self.gaussian else 0.0
            parts.append(by_level + left)
        return np.concatenate(parts)
