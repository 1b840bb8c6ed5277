"""The likelihood of the rows as the engine needs it: derivatives at any predictor, means of them over a Gaussian."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array
from bayou.conditional.field import Field, GaussianField
from bayou.engines.nested.grouped import Divided, GroupLikelihood
from bayou.engines.nested.variational import corrected_mean
from bayou.families.rows import row_derivatives

if TYPE_CHECKING:
    from bayou.design import Distinct
    from bayou.engines.nested.survey import Node
    from bayou.model import Model

__all__ = ["Likelihood", "Rows", "RowsThere"]

STACKED = 5000  # rows up to which all nodes of a rule are evaluated in one call


@dataclass(frozen=True, eq=False)
class RowsThere:
    """The linear predictor of each row at one theta.

    Attributes
    ----------
    eta, row_sd
        (n,) mean (the strategy's) and sd.
    dispersion
        (n,) or None.
    weight
        (n,) curvatures of the log likelihoods at the mode: W of the precision A'WA + Q.
    """

    eta: Array
    row_sd: Array
    dispersion: Array | None
    weight: Array


class Rows(ABC):
    """What the engine asks of the rows, wherever they are.

    Attributes
    ----------
    gaussian
        Whether log p(y | eta) is a parabola in eta, so that the Gaussian of x given theta is exact.
    """

    gaussian: bool

    @abstractmethod
    def corrected(self, field: GaussianField, theta: Array) -> tuple[Array, Array, bool]:
        """Return the move d (N,) of the mean at theta, the force s (N,) with d = Sigma s, and whether it was found.

        The field must be placed at theta.
        """

    @abstractmethod
    def there(self, field: GaussianField, theta: Array, mean: Array) -> RowsThere | None:
        """Return the rows at theta, where the field is placed, the coefficients' mean (N,) given; None if elsewhere."""

    @abstractmethod
    def groups(self) -> Divided:
        """Return the likelihood of the rows given the fixed effects, group by group."""


class Likelihood(Rows):
    """The rows of one model, in the order of its data.

    Attributes
    ----------
    frequency
        (n,) how many rows as given are like each; what is asked of single rows is asked of `given`.
    """

    def __init__(self, model: Model) -> None:
        design = model.design
        self.model, self.family = model, model.family
        self.y, self.trials, self.weights = (
            np.ascontiguousarray(a, dtype=np.float64) for a in (design.y, design.trials, design.weights)
        )
        self.n = len(self.y)
        self.frequency = np.ones(self.n)
        self._stacked: tuple[Array, Array, Array] | None = None
        self.gaussian = self.family.name == "gaussian" and self.family.link.name == "identity"
        self.name = None if model.dispersion_known else self.family.dispersion

    def given(self) -> Likelihood:
        """Return the rows as they were given: itself, unless identical ones were merged."""
        reduced = self.model.design.reduced
        return self if reduced is None or reduced.distinct is None else _Given(self.model, reduced.distinct)

    def corrected(self, field: GaussianField, theta: Array) -> tuple[Array, Array, bool]:
        """Return move, force and whether they were found; see `Rows`."""
        assert isinstance(field, Field)
        sd = np.sqrt(np.maximum(field.row_variances(), 0.0))
        dispersion = self.dispersion(field.unpack_theta(theta[None]))
        move, r, settled = corrected_mean(field, self, dispersion, sd)
        return move, field.project(r), settled

    def there(self, field: GaussianField, theta: Array, mean: Array) -> RowsThere:
        """Return the rows at theta; see `Rows`."""
        assert isinstance(field, Field)
        return RowsThere(
            field.predictor(mean),
            np.sqrt(np.maximum(field.row_variances(), 0.0)),
            self.dispersion(field.unpack_theta(theta[None])),
            field.point.weight.copy(),
        )

    def groups(self) -> Divided:
        """Return the likelihood of the rows given the fixed effects, group by group."""
        return GroupLikelihood(self.model)

    def at(self, node: Node) -> RowsThere:
        """Return what a node says of these rows."""
        assert node.rows is not None
        return node.rows

    def predictor(self, eta: Array) -> Array:
        """Return the predictor (…, n) of these rows, given that of the model's."""
        return eta

    def dispersion(self, natural: dict[str, Array]) -> Array | None:
        """Return each row's dispersion (n,) at one theta, given `unpack_theta` of it alone; None without one."""
        if self.family.dispersion is None:
            return None
        design = self.model.design
        if self.name is None:
            return np.asarray(design.standard_errors, dtype=np.float64)
        values = np.ravel(natural[self.name])
        return np.asarray(values[design.sigma_codes] if design.sigma_by is not None else np.full(self.n, values[0]))

    def log_density(self, eta: Array, dispersion: Array | None) -> Array:
        """Return log p(y_i | eta_i) (…, n) with every constant."""
        return self.family.log_density(self.y, eta, dispersion, self.trials, self.weights)

    def cumulative(self, eta: Array, dispersion: Array | None) -> Array:
        """Return P(Y_i <= y_i | eta_i) (…, n)."""
        return self.family.cdf(self.y, eta, dispersion, self.trials, self.weights)

    def derivatives(self, eta: Array, dispersion: Array | None) -> tuple[Array, Array]:
        """Return l'(eta) and −l''(eta), both (n,)."""
        if dispersion is not None and (dispersion != dispersion[0]).any():
            known: Any = (self.y, eta, dispersion, self.trials, self.weights)
            return self.family.gradient(*known), self.family.curvature(*known)
        value, gradient, curvature = np.empty(self.n), np.empty(self.n), np.empty(self.n)
        one = 1.0 if dispersion is None else float(dispersion[0])
        row_derivatives(
            self.family.code, self.y, self.trials, self.weights, np.ascontiguousarray(eta), one, value, gradient,
            curvature,
        )  # fmt: skip
        return gradient, curvature

    def expected_derivatives(
        self, mean: Array, sd: Array, dispersion: Array | None, rule: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        """Return E l'(eta) and −E l''(eta) for eta_i ~ N(mean_i, sd_i²), both (n,)."""
        z, w = rule
        if dispersion is not None and (dispersion != dispersion[0]).any() or self.n > STACKED:
            parts = [self.derivatives(mean + point * sd, dispersion) for point in z]
            return w @ np.array([p[0] for p in parts]), w @ np.array([p[1] for p in parts])
        if self._stacked is None or len(self._stacked[0]) != len(z) * self.n:
            self._stacked = np.tile(self.y, len(z)), np.tile(self.trials, len(z)), np.tile(self.weights, len(z))
        eta = (mean + z[:, None] * sd).ravel()
        out = np.empty((3, len(eta)))
        one = 1.0 if dispersion is None else float(dispersion[0])
        y, trials, weights = self._stacked
        row_derivatives(self.family.code, y, trials, weights, eta, one, out[0], out[1], out[2])
        return w @ out[1].reshape(len(z), -1), w @ out[2].reshape(len(z), -1)


class _Given(Likelihood):
    """Each different row as given once, where identical ones were merged."""

    def __init__(self, model: Model, distinct: Distinct) -> None:
        super().__init__(model)
        self.y, self.trials, self.weights = distinct.y, distinct.trials, distinct.weights
        self.n, self.frequency, self._kept = len(distinct.y), distinct.frequency, distinct.row
        self._shift = distinct.offset - model.design.offset[distinct.row]

    def given(self) -> Likelihood:
        return self

    def predictor(self, eta: Array) -> Array:
        return np.asarray(eta[..., self._kept] + self._shift)

    def at(self, node: Node) -> RowsThere:
        there, kept = super().at(node), self._kept
        eta = self.predictor(there.eta)
        # curvatures add up: each row has its share of that of the row that it went into
        _, curvature = self.derivatives(eta, None)
        curvature = np.maximum(curvature, 0.0)
        whole = np.bincount(kept, weights=self.frequency * curvature, minlength=len(there.eta))[kept]
        share = np.divide(curvature, whole, out=np.zeros(self.n), where=whole > 0.0)
        return RowsThere(eta, there.row_sd[kept], there.dispersion, share * there.weight[kept])
