"""The Gaussian of all coefficients by conjugate gradients: solves where `Conditional` has a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.conditional.conjugate import Equations
from bayou.conditional.joint import Conditional
from bayou.conditional.rows import Sorted, colour, project, whiten
from bayou.errors import DataError
from bayou.linalg.schur import Border, Factor
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model


class IterativeConditional(Conditional):
    """`Conditional` without a factor.

    Modes, covariances of the fixed effects and draws are exact; prediction error variances of group coefficients are
    estimated from probes (Hutchinson).

    Parameters
    ----------
    model, T, log_marginal, beta
        As in `Conditional`.
    data, border, weight
        The sorted rows, the prior of the rest, the rows' weights (n,).
    u, rest
        The modes in whitened coordinates, (J, p) and (R,).
    probes
        Vectors of random signs.
    """

    def __init__(
        self,
        model: Model,
        data: Sorted,
        border: Border,
        T: Array,
        weight: Array,
        u: Array,
        rest: Array,
        log_marginal: float,
        beta: Array | None,
        probes: int,
    ) -> None:
        self.data, self.weight, self.probes = data, weight, probes
        self._at = u.copy(), rest.copy()
        empty = Factor(*(np.zeros(0) for _ in Factor._fields))
        super().__init__(model, data.order, data.arrow, border, empty, T, 1.0, 0.0, log_marginal, beta)

    def _modes(self, u: Array, rest: Array) -> None:
        u[:], rest[:] = self._at
        rest[self.columns :] = 0.0

    def _equations(self, n: int) -> Equations:
        made = Equations(self.data, self.border, n, self.probes)
        if not made.fill(self.T, self.weight, np.zeros(len(self.weight))):
            raise DataError(
                "The fixed effects are not determined by the data: some columns of X depend on each other, or say "
                "nothing at this fit. Leave columns out, or give priors."
            )
        return made

    def _fixed_covariance(self) -> Array:
        P, R = len(self.border.linear), len(self._rest)
        made, out = self._equations(R), np.zeros((P, P))
        for k in range(P):
            h, g = np.zeros_like(self._b), np.zeros(R)
            g[R - P + k] = 1.0
            made.solve(h, g)
            out[k] = g[R - P :]
        return np.asarray(0.5 * (out + out.T))

    def _variances(self) -> tuple[Array, Array]:
        own, rest = np.zeros_like(self._b), np.zeros_like(self._rest)
        made = self._equations(self.columns)
        made.estimate(self.T, np.zeros_like(self.T), own=own, rest=rest)
        return own, rest

    def _drawn(self, known: Array, own: Array, others: Array, rng: np.random.Generator) -> None:
        P, R = known.shape[1], len(self._rest)
        made = self._equations(R - P)
        rows, border = packed(self.data.rows), self._packed[1]
        X = self.data.rows.others[:, made.q :]
        u, rest = self._at
        fixed = rest[R - P :] if self.given is None else np.zeros(P)
        root = np.sqrt(np.maximum(self.weight, 0.0))
        for s in range(len(own)):
            # a right-hand side whose covariance is the precision (Papandreou & Yuille 2010, NIPS 23)
            right = root * rng.standard_normal(len(root)) - self.weight * (X @ (known[s] - fixed))
            h, g = np.zeros_like(u), np.zeros(R)
            project(rows, right, made.q, h, g)
            whiten(border, self.T, h, g)
            h += rng.standard_normal(h.shape)
            g[: R - P] += rng.standard_normal(R - P)
            made.solve(h, g)
            h += u
            g[: R - P] += rest[: R - P]
            g[R - P :] = known[s]
            colour(border, self.T, h, g, own[s], others[s])
