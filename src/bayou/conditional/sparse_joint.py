"""The Gaussian of all coefficients where the Schur complement of its precision is sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.front import backward_levels
from bayou.conditional.front_covariances import variances
from bayou.conditional.front_layout import Front, Pieces
from bayou.conditional.joint import Conditional
from bayou.conditional.rows import colour
from bayou.jit import kernel
from bayou.linalg.schur import Arrow, Border, Factor
from bayou.linalg.symbolic import positions
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.model import Model


@kernel(entry=True)
def _draws(
    border: Border, front: Front, pieces: Pieces, T: Array, known: Array, at: Array, at_rest: Array, u: Array,
    rest: Array, own: Array, others: Array, scale: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Draw the coefficients around at (J, p), at_rest (R,), given the fixed effects of each draw, known (S, P)."""
    symbolic, x = front.symbolic, pieces.x
    J, p = u.shape
    P, R, free = known.shape[1], rest.shape[0], border.fixed
    for s in range(own.shape[0]):
        for k in range(P):
            rest[R - P + k] = known[s, k] - at_rest[R - P + k]
        for k in range(free, symbolic.n):
            x[k] = rest[symbolic.permutation[k]]
        for k in range(free - 1, -1, -1):
            start, below = symbolic.start[k], symbolic.row_at[k]
            t = scale * rng.standard_normal()
            for e in range(1, symbolic.length[k]):
                t -= pieces.sparse.values[start + e] * x[symbolic.rows[below + e]]
            x[k] = t / pieces.sparse.values[start]
            rest[symbolic.permutation[k]] = x[k]
        for j in range(J):
            for i in range(p):
                u[j, i] = scale * rng.standard_normal()
        backward_levels(front, pieces, u, rest)
        for j in range(J):
            for i in range(p):
                u[j, i] += at[j, i]
        for i in range(R):
            rest[i] += at_rest[i]
        colour(border, T, u, rest, own[s], others[s])


class SparseConditional(Conditional):
    """`Conditional` by a sparse factor: the same answers, nothing of the size of the rest squared.

    Parameters
    ----------
    model, order, arrow, border, T, log_marginal, beta
        As in `Conditional`; ``arrow`` is read for its layout alone.
    front, pieces
        The factorised system.
    u, rest
        The modes in whitened coordinates, (J, p) and (R,).
    """

    def __init__(
        self,
        model: Model,
        order: tuple[int, ...],
        arrow: Arrow,
        border: Border,
        front: Front,
        pieces: Pieces,
        T: Array,
        u: Array,
        rest: Array,
        log_marginal: float,
        beta: Array | None = None,
    ) -> None:
        self.front, self.pieces = front, pieces
        self._handed = packed(front), packed(pieces)
        self._at = u.copy(), rest.copy()
        empty = Factor(*(np.zeros(0) for _ in Factor._fields))
        super().__init__(model, order, arrow, border, empty, T, 1.0, 0.0, log_marginal, beta)

    def _modes(self, u: Array, rest: Array) -> None:
        u[:], rest[:] = self._at
        rest[self.columns :] = 0.0

    def _fixed_covariance(self) -> Array:
        P = len(self.border.linear)
        symbolic = self.front.symbolic
        i, k = np.tril_indices(P)
        pivot: Integers = symbolic.permutation[symbolic.n - P :]
        root = np.zeros((P, P))
        root[i, k] = self.pieces.sparse.values[positions(symbolic, pivot[i], pivot[k])]
        inverse = np.linalg.solve(root, np.eye(P))
        place = np.argsort(pivot)
        return np.asarray((inverse.T @ inverse)[np.ix_(place, place)])

    def _variances(self) -> tuple[Array, Array]:
        own, rest = np.zeros_like(self._b), np.zeros_like(self._rest)
        variances(self._packed[1], self.T, *self._handed, own, rest)
        return own, rest

    def _drawn(self, known: Array, own: Array, others: Array, rng: np.random.Generator) -> None:
        u, rest = np.zeros_like(self._b), np.zeros_like(self._rest)
        at, at_rest = self._at[0], self._at[1].copy()
        if self.given is not None:
            at_rest[self.columns :] = 0.0
        _draws(
            self._packed[1], *self._handed, self.T, known, at, at_rest, u, rest, own, others, self.scale, rng
        )


