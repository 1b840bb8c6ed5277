"""The Laplace approximation where the Schur complement of the coefficients is sparse: nested factors, small groups.

The same approximation as `bayou.conditional.laplace`, to rounding, by another road: the rows go straight into fronts
(`front`), whose sum is factorised by the sparse Cholesky. Memory and time grow with the numbers of its factor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bayou._types import Array
from bayou.conditional.adjoint import new_adjoint
from bayou.conditional.front import factorise, forward
from bayou.conditional.front_covariances import covariances, gradient
from bayou.conditional.front_layout import Front, Pieces, new_pieces
from bayou.conditional.images import images
from bayou.conditional.joint import Conditional
from bayou.conditional.laplace import Laplace
from bayou.conditional.mode import System, new_point, weigh
from bayou.conditional.rows import Sorted, sorted_rows
from bayou.conditional.sparse_joint import SparseConditional
from bayou.conditional.sparse_mode import find_mode
from bayou.errors import DataError
from bayou.families.codes import GAUSSIAN_IDENTITY
from bayou.linalg.covariances import Inverse
from bayou.linalg.schur import Factor
from bayou.packed import packed

NOTHING = np.zeros(0)


class SparseLaplace(Laplace):
    """The approximation for one model with a sparse Schur complement; see `Laplace`."""

    def _sorted(self) -> Sorted:
        return sorted_rows(self.model, sums=False)

    def _allocate(self, P: int) -> None:
        data = self.data
        border = data.border
        if not (self.priors and self.integrated):
            border = border._replace(precision=np.zeros((P, P)), linear=np.zeros(P))
        n, (J, p), R = len(data.y), data.arrow.a.shape, len(data.arrow.d)
        q = data.rows.others.shape[1]
        self.n, self.q = (R, q) if self.integrated else (R - P, q - P)
        factor = Factor(np.zeros((0, p, p)), NOTHING, np.zeros((0, p)), np.zeros((0, 0)), NOTHING)
        self.system = System(
            self.code, data.rows, data.y, data.trials, data.weights.copy(), data.arrow, border, factor
        )
        K = self.numbers.shape
        shapes: dict[str, Any] = {"n": n, "Jp": (J, p), "R": R, "K": K}
        self.point = new_point(shapes)
        self.work = new_adjoint(shapes, Inverse(*(np.zeros((0, 0)) for _ in Inverse._fields)), p + q)
        self.front: Front = self.model.structure.front(data, self.n)
        self.pieces: Pieces = new_pieces(self.front, p, self.q)
        self._packed = packed(self.system), packed(self.point), packed(self.work)
        self._handed = packed(self.front), packed(self.pieces)
        self._edges = packed(data.rows), packed(border)
        self.T = np.zeros(K)
        self._start(border)

    def _find(self) -> int:
        system, point, _ = self._packed
        return int(
            find_mode(system, point, self.T, self.row_dispersion, self.n, self.q, self.settled, *self._handed)
        )

    def _fill_adjoint(self) -> None:
        work, plain = self.work, self.code == GAUSSIAN_IDENTITY and self.levels < 2
        covariances(*self._edges, self.T, self.q, *self._handed, work.moments, NOTHING if plain else work.leverage)
        if plain:
            work.leverage[:] = self._total_leverage() / self.point.weight.sum()
        gradient(*self._packed, self.T, self.row_dispersion, self.q, *self._handed)

    def _total_leverage(self) -> float:
        """Return Σ w a'H⁻¹a from the moments: all that a constant weight, and one sigma, ask of the leverages.

        It is tr(H⁻¹ A'WA) = tr(I − H⁻¹ Q), Q the prior's part of H.
        """
        left = self.point.u.size + self.n - float(np.trace(self.work.moments, axis1=1, axis2=2).sum())
        if self.n > self.system.border.fixed and self.system.border.precision.any():
            P = len(self._linear)
            i, k = np.tril_indices(P)
            V = np.zeros((P, P))
            V[i, k] = V[k, i] = self.pieces.inverse[self.front.fixed]
            left -= float((V * self.system.border.precision).sum())
        return left

    def _covariances(self) -> Array:
        out = np.zeros(self.numbers.shape)
        covariances(*self._edges, self.T, self.q, *self._handed, out, NOTHING)
        return out

    def information(self) -> Array:
        """Return the average information (d, d) of the covariance parameters at the mode.

        The products of `bayou.conditional.information`, each image Z v taken over the rows.
        """
        image, sides = images(self)
        solved = []
        for v, v_rest in sides:
            x = np.empty(self.n)
            forward(*self._handed, v, v_rest, x)
            solved.append(np.concatenate([v.ravel(), x]))
        both = np.array(solved).reshape(len(image), -1)
        whole = 0.5 * ((image * self.point.weight) @ image.T - both @ both.T)
        return np.asarray(whole * np.outer(self.numbers.unit, self.numbers.unit))

    def joint(self, given: bool = False) -> Conditional:
        """Return the joint Gaussian of all coefficients at the mode that `place` found last; see `Laplace.joint`."""
        data, P, R = self.data, len(self._linear), len(self.data.arrow.d)
        value = self.value() if np.isfinite(self.point.facts).all() else math.nan
        border = data.border if self.priors else self.system.border
        rest = self.point.rest.copy()
        if self.explicit and not given:
            rest[R - P :] = self.beta  # where the criterion has its maximum, which is not that of the joint density
        n = R - P if given else R
        q = data.rows.others.shape[1] - (P if given else 0)
        front = self.model.structure.front(data, n)
        pieces = new_pieces(front, data.arrow.a.shape[1], q)
        weigh(self._packed[1], False)
        rows = packed(data.rows)
        parts = packed(border), self.T, self.point.weight, self.point.working, q, packed(front), packed(pieces)
        ok, *_ = factorise(rows, *parts)
        if not ok:
            raise DataError(
                "The fixed effects are not determined by the data: some columns of X depend on each other, or say "
                f"nothing at this fit ({P} columns). Leave columns out, or give priors."
            )
        beta = self.beta if given else None
        return SparseConditional(
            self.model, data.order, data.arrow, border, front, pieces, self.exact, self.point.u, rest, value, beta
        )
