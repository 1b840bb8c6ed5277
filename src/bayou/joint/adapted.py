"""What conditional coordinates are made from: the parabola of the log likelihood at the mode, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse

from bayou._types import Array, Integers
from bayou.conditional.field.component import Component
from bayou.joint.codes import BASIS, CONDITIONAL, GROUPS, WHITENED
from bayou.joint.maps import Sparse, basis_of, coordinates_of, design_of, root_of
from bayou.joint.peak import Peak
from bayou.joint.structures import Known, Shape

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["Adapted"]

LEADING = 250  # coefficients, with the fixed effects, that may have a dense root
EMPTY = np.zeros(0)


class Adapted:
    """The conditional coordinates of a model around its mode.

    Parameters
    ----------
    model, parts, shapes
        The model and its effects.
    forms
        Of their coordinates.
    peak
        The mode.
    scales
        Sds of the coordinates of structures on a basis there.

    Attributes
    ----------
    known
        What the kernels need.
    shapes
        The effects, bases turned so that data and prior are diagonal in them.
    """

    def __init__(
        self,
        model: Model,
        parts: Sequence[Component],
        shapes: Sequence[Shape],
        forms: Sequence[int],
        peak: Peak,
        scales: Sequence[Array],
    ) -> None:
        self.model, self.parts, self.peak, self.scales, self.forms = model, parts, peak, scales, forms
        turned = [
            self._turned(part, shape) if shape.kind == BASIS and form == CONDITIONAL else shape
            for part, shape, form in zip(parts, shapes, forms, strict=True)
        ]
        self.shapes = tuple(turned)
        self.modes = [self._mode(k) for k in range(len(parts))]
        counts = [(s.ranks + s.free) * p.effect.replicates for p, s in zip(parts, self.shapes, strict=True)]
        self.counts = counts
        P = model.working.X.shape[1]
        able = [k for k, form in enumerate(forms) if form == CONDITIONAL]
        if P + sum(c for c, s in zip(counts, self.shapes, strict=True) if s.kind != GROUPS) <= LEADING:
            able = [k for k in able if self.shapes[k].kind == GROUPS]  # a root serves structures better
        self.able = able
        self.last = max(able, key=lambda k: counts[k], default=-1)
        self.leaders: list[int] = []
        K = P
        for k in sorted(range(len(parts)), key=lambda k: counts[k]):
            if k != self.last and K + counts[k] <= LEADING:
                self.leaders.append(k)
                K += counts[k]
        self.leaders.sort()
        self.known = self._know()

    def _design(self, k: int) -> Sparse:
        """Return what eta is of the coordinates of an effect with unit sds, (n, its coordinates)."""
        return design_of(self.model, [self.parts[k]], [self.shapes[k]], [basis_of(self.shapes[k])])

    def _turned(self, part: Component, shape: Shape) -> Shape:
        """Turn a basis so that what the data say is diagonal in it, all copies together."""
        r, w = shape.ranks, self.peak.weight
        A = design_of(self.model, [part], [shape], [basis_of(shape)])
        whole = np.zeros((r, r))
        for copy in range(part.effect.replicates):
            start = copy * (r + shape.free)
            own = A[:, start : start + r]
            whole += np.asarray((own.T @ (scipy.sparse.diags_array(w) @ own)).todense())
        U = np.linalg.eigh(whole)[1]
        basis, dual = shape.basis.copy(), shape.dual.copy()
        basis[:r], dual[:r] = U.T @ shape.basis[:r], U.T @ shape.dual[:r]
        return replace(shape, basis=basis, dual=dual)

    def _coefficients(self, k: int) -> Array:
        """Return the coefficients (copies, size) of an effect at the mode, as rows see them."""
        part = self.parts[k]
        own = self.peak.coefficients[part.place].reshape(part.effect.replicates, part.effect.size)
        return np.asarray(own[:, : self.shapes[k].size])

    def _mode(self, k: int) -> Array:
        """Return the coordinates (copies, …) of an effect at the mode, in units of one."""
        return coordinates_of(self.shapes[k], np.zeros((0, 0)), self._coefficients(k), False)

    # ---- what kernels need -----------------------------------------------------------------

    def _know(self) -> Known:
        curvatures, rights = [], []
        for k, form in enumerate(self.forms):
            if form != CONDITIONAL:
                curvatures.append(EMPTY)
                rights.append(EMPTY)
                continue
            curvature = self._curvature(k)
            mode = self.modes[k]
            moved = (curvature @ mode[:, :, None])[:, :, 0] if curvature.ndim == 3 else curvature * mode
            curvatures.append(np.ascontiguousarray(curvature).ravel())
            rights.append(moved.ravel() + np.asarray(self._design(k).T @ self.peak.gradient))
        C = len(self.parts)
        following = [k for k in self.able if k not in self.leaders]
        cross_at, crosses = [-1] * C, [Sparse((0, 1))]
        if following:
            columns, others = self._leading_columns()
            crosses = [Sparse((0, columns.shape[1]))]
            for k in following:
                cross_at[k] = sum(c.shape[0] for c in crosses)
                crosses.append(Sparse(self._design(k).T @ (scipy.sparse.diags_array(self.peak.weight) @ columns)))
                rights[k] = rights[k] + crosses[-1] @ others
        order = sorted(range(C), key=lambda k: cross_at[k] >= 0)
        whole = Sparse(scipy.sparse.vstack(crosses, format="csr"))
        return Known(tuple(self.forms), tuple(order), tuple(curvatures), tuple(rights), tuple(cross_at), whole)

    def _curvature(self, k: int) -> Array:
        """Return the curvature of the data: (levels, p, p) of a group, (copies, …) of a structure on a basis."""
        part, shape, w = self.parts[k], self.shapes[k], self.peak.weight
        if shape.kind != GROUPS:
            diagonal = np.asarray(self._design(k).power(2).T @ w)
            return diagonal.reshape(part.effect.replicates, -1)
        g = self.model.design.groupings[part.grouping]
        J, p = len(g.levels), len(part.columns)
        out = np.empty((J, p, p))
        for a, i in enumerate(part.columns):
            for b, j in enumerate(part.columns):
                out[:, a, b] = np.bincount(g.codes, weights=w * g.Z[:, i] * g.Z[:, j], minlength=J)
        return out

    def _leading_columns(self) -> tuple[Sparse, Array]:
        """Return what eta is of fixed effects and leaders, and where these are at the mode."""
        sizes = [s.size * p.effect.replicates for p, s in zip(self.parts, self.shapes, strict=True)]
        columns = [Sparse(self.model.working.X)]
        values = [self.peak.beta]
        for k, size in enumerate(sizes):
            if k in self.leaders:
                unit = replace(self.shapes[k], basis=np.eye(self.shapes[k].size))
                columns.append(design_of(self.model, [self.parts[k]], [unit], [np.eye(unit.size)]))
                values.append(self._coefficients(k).ravel())
            else:
                columns.append(Sparse((self.model.design.n, size)))
                values.append(np.zeros(size))
        return Sparse(scipy.sparse.hstack(columns, format="csr")), np.concatenate(values)

    # ---- the map ---------------------------------------------------------------------------

    def centre(self) -> Array:
        """Return the coordinates (M,) of all effects at the mode."""
        found = [EMPTY]
        for k, (part, shape, form) in enumerate(zip(self.parts, self.shapes, self.forms, strict=True)):
            if form == CONDITIONAL:
                free = np.zeros((part.effect.replicates, shape.ranks + shape.free))
                free[:, shape.ranks :] = self.modes[k][:, shape.ranks :]
                found.append(free.ravel())
                continue
            root = root_of(part.effect, shape, self.peak.theta[part.hyper], self.scales[k])
            found.append(coordinates_of(shape, root, self._coefficients(k), form == WHITENED).ravel())
        return np.concatenate(found)

    def leading(self, rate: Array) -> tuple[Integers, Array]:
        """Return which coordinates have a dense root (fixed effects and the leaders), and the root (K, K)."""
        field, P = self.peak.field, len(rate)
        N = field.layout.latent
        rows = [scipy.sparse.hstack([Sparse((P, N)), scipy.sparse.diags_array(1.0 / rate)], format="csr")] if P else []
        places = [np.arange(P)]
        starts = P + np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        for k in self.leaders:
            part = self.parts[k]
            own, after = self._inverse(k), N + P - part.offset - part.size
            before, behind = Sparse((own.shape[0], part.offset)), Sparse((own.shape[0], after))
            rows.append(scipy.sparse.hstack([before, own, behind], format="csr"))
            places.append(np.arange(starts[k], starts[k + 1]))
        lead = np.concatenate(places).astype(np.int64)
        if not len(lead):
            return lead, np.zeros((0, 0))
        R = Sparse(scipy.sparse.vstack(rows, format="csr"))
        covariance = np.asarray(R @ field.solve(R.toarray()).T)
        covariance = 0.5 * (covariance + covariance.T)
        size = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
        unit = covariance / np.outer(size, size)
        values, vectors = np.linalg.eigh(unit)
        unit = (vectors * np.maximum(values, 1e-8)) @ vectors.T
        return lead, size[:, None] * np.linalg.cholesky(unit)

    def _inverse(self, k: int) -> Sparse:
        """Return d coordinates / d coefficients (its coordinates, size of the component) of an effect at the mode."""
        part, shape, scale = self.parts[k], self.shapes[k], self.scales[k]
        effect = part.effect
        R, theta = effect.replicates, self.peak.theta[part.hyper]
        root = root_of(effect, shape, theta, scale)
        blocks = []
        curvature = self._curvature(k) if self.forms[k] == CONDITIONAL else None
        for copy in range(R):
            if curvature is None:
                own = np.linalg.inv(root) if self.forms[k] == WHITENED else np.eye(shape.size)
            elif shape.kind == GROUPS:
                A = np.eye(shape.size) + root.T @ curvature[copy] @ root
                own = scipy.linalg.solve_triangular(root, np.linalg.cholesky(A), lower=True, trans=1).T
            else:
                units = np.ones(shape.ranks + shape.free)
                units[: shape.ranks] = np.sqrt(scale**-2 + curvature[copy, : shape.ranks])
                own = units[:, None] * shape.dual
            blocks.append(np.hstack([own, np.zeros((len(own), effect.size - shape.size))]))
        return Sparse(scipy.sparse.block_diag(blocks, format="csr"))
