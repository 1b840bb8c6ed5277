"""Weights of large models with one grouping factor: group by group, by quadrature, given the fixed effects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_beta
from bayou.conditional.adaptive import AdaptiveQuadrature

if TYPE_CHECKING:
    from bayou.conditional.field import GaussianField
    from bayou.model import Model

__all__ = ["Divided", "GroupLikelihood", "factor_of", "suitable"]

NODES = {1: 7, 2: 5}  # in each dimension, by the number of coefficients of a group, which goes no higher
FINER = 4  # more nodes, which tell once what the others leave out


def suitable(model: Model) -> bool:
    """Return whether, given the fixed effects, the likelihood is a product over groups that quadrature can take."""
    design = model.design
    one = len(design.groupings) == 1 and not design.structured and design.groupings[0].Z.shape[1] in NODES
    return one and model.family.name != "gaussian" and len(design.sigma_levels) <= 1


class Divided(ABC):
    """log p(y | beta, theta) with each group's coefficients integrated over nodes around their mode.

    One weight for all coefficients of a thousand groups is the product of a thousand weights, and useless; with the
    groups integrated out one by one only the fixed effects are left to be weighted.
    """

    model: Model
    left_out: float  # by the nodes, of log p(y | beta, theta)

    @abstractmethod
    def evaluated(self, beta: Array, T: Array, dispersion: Array) -> Array:
        """Return log p(y | beta, theta) (S,) at fixed effects (S, P), a factor T (p, p) and the dispersions."""

    @abstractmethod
    def refined(self, beta: Array, T: Array, dispersion: Array) -> float:
        """Return what more nodes would add at fixed effects (P,)."""

    def log_weights(self, field: GaussianField, theta: Array, mean: Array, Z: Array) -> tuple[Array, Array]:
        """Return working fixed effects drawn from their Gaussian, in antithetic pairs, and log weights.

        The mean of the weights p(y | beta, theta) p(beta) / q(beta) is p(y | theta) up to the error of the quadrature;
        Laplace's value of that is taken off.

        Parameters
        ----------
        field
            Placed at theta.
        mean
            (P,) of the Gaussian q.
        Z
            Standard normals (S, P).

        Returns
        -------
        (2 S, P) and (2 S,).
        """
        P = len(mean)
        covariance = field.fixed_covariance()
        root = np.linalg.cholesky(covariance) if P else covariance
        D = Z @ root.T
        beta = mean + np.concatenate([D, -D])
        half = float(np.log(np.diag(root)).sum()) + 0.5 * P * np.log(2.0 * np.pi)
        squares = np.tile(0.5 * np.square(Z).sum(axis=1), 2)
        back, bound = self.model.working.to_printed, self.model.bound
        prior = np.array([log_density_beta(bound, back @ one) for one in beta])
        given = self.evaluated(beta, factor_of(field, theta), field.dispersion)
        return beta, given + self.left_out + prior + half + squares - field.value()

    def measure(self, field: GaussianField, theta: Array) -> float:
        """Return, and add from now on, what more nodes would add where the field is placed, at theta."""
        self.left_out = self.refined(field.x[field.columns["beta"]], factor_of(field, theta), field.dispersion)
        return self.left_out


class GroupLikelihood(Divided, AdaptiveQuadrature):
    """The same among rows that are here."""

    def __init__(self, model: Model) -> None:
        self.nodes = NODES[model.design.groupings[0].Z.shape[1]]
        AdaptiveQuadrature.__init__(self, model, self.nodes)
        self.left_out = 0.0

    def evaluated(self, beta: Array, T: Array, dispersion: Array) -> Array:
        """Return log p(y | beta, theta) at each row of beta (S, P); see `Divided`."""
        return np.array([self.at(one, T, dispersion) for one in beta])

    def refined(self, beta: Array, T: Array, dispersion: Array) -> float:
        """Return what more nodes would add at one place; see `Divided`."""
        return float(self.change(self.nodes + FINER)) if np.isfinite(self.at(beta, T, dispersion)) else 0.0

    def at(self, beta: Array, T: Array, dispersion: Array) -> float:
        """Return log p(y | beta, theta), without derivatives; minus infinity where there is none."""
        T = T.reshape(self.numbers.shape)
        if not self.settle(self.join(beta, T, dispersion)):
            return -np.inf
        found = self._run(*self._grid, slopes=False)
        if not np.isfinite(found):
            self.states.u[:] = 0.0
            found = self._run(*self._grid, slopes=False)
        self._value = found
        return self.value() if np.isfinite(found) else -np.inf


def factor_of(field: GaussianField, theta: Array) -> Array:
    """Return a lower factor (p, p) of the covariance of the one grouping factor's coefficients."""
    named = field.unpack_theta(theta[None])
    grouping = field.model.design.groupings[0]
    sd = named[f"sd_{grouping.name}"][0]
    correlation = named.get(f"cor_{grouping.name}", np.eye(len(sd))[None])[0]
    return np.linalg.cholesky(correlation * np.outer(sd, sd))
