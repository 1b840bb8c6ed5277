"""Weights of large models with one grouping factor: group by group, by quadrature, given the fixed effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.binding import log_density_beta
from bayou.conditional.adaptive import AdaptiveQuadrature

if TYPE_CHECKING:
    from bayou.conditional.field import Field
    from bayou.model import Model

__all__ = ["GroupLikelihood", "fixed_covariance", "suitable"]

NODES = {1: 7, 2: 5}  # in each dimension, by the number of coefficients of a group, which goes no higher
FINER = 4  # more nodes, which tell once what the others leave out


def suitable(model: Model) -> bool:
    """Return whether, given the fixed effects, the likelihood is a product over groups that quadrature can take."""
    design = model.design
    one = len(design.groupings) == 1 and not design.structured and design.groupings[0].Z.shape[1] in NODES
    return one and model.family.name != "gaussian" and len(design.sigma_levels) <= 1


class GroupLikelihood(AdaptiveQuadrature):
    """log p(y | beta, theta) with each group's coefficients integrated over nodes around their mode.

    One weight for all coefficients of a thousand groups is the product of a thousand weights, and useless; with the
    groups integrated out one by one only the fixed effects are left to be weighted.
    """

    def __init__(self, model: Model) -> None:
        self.nodes = NODES[model.design.groupings[0].Z.shape[1]]
        super().__init__(model, self.nodes)
        self.left_out = 0.0

    def log_weights(self, field: Field, theta: Array, mean: Array, Z: Array) -> tuple[Array, Array]:
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
        covariance = fixed_covariance(field)
        root = np.linalg.cholesky(covariance) if P else covariance
        D = Z @ root.T
        beta = mean + np.concatenate([D, -D])
        half = float(np.log(np.diag(root)).sum()) + 0.5 * P * np.log(2.0 * np.pi)
        squares = np.tile(0.5 * np.square(Z).sum(axis=1), 2)
        T = np.zeros(self.numbers.shape)
        T[0] = factor_of(field, theta)
        back, bound = self.model.working.to_printed, self.model.bound
        out = np.empty(len(beta))
        for s, one in enumerate(beta):
            given = self.at(one, T, field.dispersion)
            out[s] = given + log_density_beta(bound, back @ one) + half + squares[s]
        return beta, out - field.value()

    def measure(self, field: Field, theta: Array) -> float:
        """Return, and add from now on, what more nodes would add where the field is placed, at theta."""
        T = np.zeros(self.numbers.shape)
        T[0] = factor_of(field, theta)
        found = self.at(field.x[field.columns["beta"]], T, field.dispersion)
        self.left_out = float(self.change(self.nodes + FINER)) if np.isfinite(found) else 0.0
        return self.left_out

    def at(self, beta: Array, T: Array, dispersion: Array) -> float:
        """Return log p(y | beta, theta), without derivatives; minus infinity where there is none."""
        if not self.settle(self.join(beta, T, dispersion)):
            return -np.inf
        found = self._run(*self._grid, slopes=False)
        if not np.isfinite(found):
            self.states.u[:] = 0.0
            found = self._run(*self._grid, slopes=False)
        self._value = found
        return self.value() + self.left_out if np.isfinite(found) else -np.inf


def fixed_covariance(field: Field) -> Array:
    """Return the covariance (P, P) of the working fixed effects where a field is placed."""
    where = field.columns["beta"]
    P = where.stop - where.start
    units = np.zeros((P, len(field.x)))
    units[:, where] = np.eye(P)
    covariance = np.array([field.solve(unit)[where] for unit in units]).reshape(P, P)
    return np.asarray(0.5 * (covariance + covariance.T))


def factor_of(field: Field, theta: Array) -> Array:
    """Return a lower factor (p, p) of the covariance of the one grouping factor's coefficients."""
    named = field.unpack_theta(theta[None])
    grouping = field.model.design.groupings[0]
    sd = named[f"sd_{grouping.name}"][0]
    correlation = named.get(f"cor_{grouping.name}", np.eye(len(sd))[None])[0]
    return np.linalg.cholesky(correlation * np.outer(sd, sd))
