"""`bym2`: an area's effect as one part that resembles its neighbours and one that does not.

    f = sd (√(1 − phi) v + √phi u),    v ~ N(0, I),    u ~ the scaled `icar` with sd 1,

so that sd is the (geometric mean of the) marginal sd and phi the share of the variance that is spatial. The
precision of f alone is dense; that of (f, u) is sparse:

    [ a I        −b I     ]    a = 1 / (sd² (1 − phi)),   b = √phi / (sd (1 − phi)),
    [ −b I   R + c I      ]    c = phi / (1 − phi).

Source: Riebler, Sørbye, Simpson & Rue (2016), An intuitive Bayesian spatial model for disease mapping that accounts
for scaling, Statistical Methods in Medical Research 25.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy.sparse

from bayou._types import Array
from bayou.effects import mixing
from bayou.effects.areal import Icar, Neighbourhood
from bayou.effects.base import Effect, Hyperparameter, expit, log_sd
from bayou.effects.pattern import lower_values
from bayou.errors import DataError


class Bym2(Effect):
    """The model of Besag, York and Mollié in the parametrisation of Riebler et al.

    Parameters
    ----------
    graph
        The neighbourhood.
    scaled
        Whether the spatial part is scaled; without it sd and phi depend on the graph.
    replicates, scale
        As in `bayou.effects.base.OneScale`.

    Examples
    --------
    >>> effect = Bym2(Neighbourhood(3, np.array([[0, 1], [1, 2]])))
    >>> effect.size, effect.observed, effect.rank
    (6, 3, 5)
    """

    def __init__(self, graph: Neighbourhood, scaled: bool = True, replicates: int = 1, scale: float = 1.0) -> None:
        self.kind, self.replicates = "bym2", replicates
        self.structure = Icar(graph, scaled)
        if not len(self.structure.constraints):
            raise DataError(
                "the graph has no edges, so that no share of the variance can be spatial. Give its edges, or write an "
                "unstructured effect, (1 | area)."
            )
        m = self.observed = self.structure.size
        self.size = 2 * m
        self.hyperparameters = (log_sd(scale), Hyperparameter("phi", "", "logit", 0.0))
        one, none = scipy.sparse.eye_array(m), scipy.sparse.csc_array((m, m))
        parts = [
            [[one, none], [none, none]],
            [[none, one], [one, none]],
            [[none, none], [none, self.structure.R]],
            [[none, none], [none, one]],
        ]
        self.indptr, self.indices, self.matrices = lower_values([scipy.sparse.block_array(p) for p in parts])
        k = len(self.structure.constraints)
        self.constraints = np.hstack([np.zeros((k, m)), self.structure.constraints])
        self.anchors = m + self.structure.anchors
        self.null = 0
        self._constant = self.structure.log_determinant(np.zeros(1))
        self._check()

    def coefficients(self, theta: Array) -> Array:
        """Return (a, −b, 1, c); 1 / (1 − phi) is 1 + exp(logit phi)."""
        odds = np.exp(min(float(theta[1]), 300.0))
        root = np.sqrt(odds * (1.0 + odds))  # √phi / (1 − phi)
        return np.array([np.exp(-2.0 * theta[0]) * (1.0 + odds), -np.exp(-theta[0]) * root, 1.0, odds])

    def coefficient_slopes(self, theta: Array) -> Array:
        """Return their derivatives (4, 2) by log sd and logit phi."""
        a, b, _, c = self.coefficients(theta)
        phi = expit(theta[1])
        # d log(1 + odds) = phi, d log √(odds (1 + odds)) = (1 + phi)/2
        return np.array([[-2.0 * a, a * phi], [-b, 0.5 * b * (1.0 + phi)], [0.0, 0.0], [0.0, c]])

    def log_determinant(self, theta: Array) -> float:
        """Return m log a + log|R|*: the Schur complement of f leaves R itself."""
        log_a = -2.0 * float(theta[0]) + float(np.logaddexp(0.0, theta[1]))
        return self.observed * log_a + self._constant

    def log_determinant_slopes(self, theta: Array) -> Array:
        """Return its gradient (2,)."""
        return self.observed * np.array([-2.0, expit(theta[1])])

    def null_basis(self, theta: Array) -> Array:
        """Return (sd √phi N, N), N the null space of the spatial part."""
        N = self.structure.null_basis(np.zeros(1))
        factor = np.exp(theta[0]) * np.sqrt(expit(theta[1]))
        return np.vstack([factor * N, N]) / np.sqrt(1.0 + factor**2)

    @cached_property
    def divergence(self) -> Callable[[float], tuple[float, float]]:
        """2 KLD of phi from no structure, and its derivative by logit phi; see `bayou.effects.mixing`."""
        return mixing.divergence(self.structure)

    def covariance(self, theta: Array) -> Array:
        """Return the covariance (2m, 2m) of (f, u) by its definition, which holds up to phi = 1."""
        V = self.structure.covariance(np.zeros(1))
        phi, other, sd = expit(theta[1]), expit(-theta[1]), float(np.exp(theta[0]))
        f = sd**2 * (other * np.eye(self.observed) + phi * V)
        return np.block([[f, sd * np.sqrt(phi) * V], [sd * np.sqrt(phi) * V, V]])

    def draw(self, theta: Array, rng: np.random.Generator, count: int) -> Array:
        """Draw from the prior by its definition."""
        u = self.structure.draw(np.zeros(1), rng, count * self.replicates)[:, 0]
        v = rng.standard_normal(u.shape)
        phi, other = expit(theta[1]), expit(-theta[1])
        f = np.exp(theta[0]) * (np.sqrt(other) * v + np.sqrt(phi) * u)
        return np.hstack([f, u]).reshape(count, self.replicates, self.size)

    def draw_each(self, thetas: Array, rng: np.random.Generator) -> Array:
        """Draw once for each row of thetas."""
        standard = self.draw(np.array([0.0, -np.inf]), rng, len(thetas))  # f = v
        v, u = standard[..., : self.observed], standard[..., self.observed :]
        phi = np.array([expit(t) for t in thetas[:, 1]])[:, None, None]
        f = np.exp(thetas[:, 0])[:, None, None] * (np.sqrt(1.0 - phi) * v + np.sqrt(phi) * u)
        return np.concatenate([f, u], axis=2)
