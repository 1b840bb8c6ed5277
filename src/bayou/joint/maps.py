"""The affine maps from positions to coordinates, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse

from bayou._types import Array, Integers
from bayou.conditional.field.component import Component
from bayou.effects.pattern import lower_values
from bayou.jit import kernel, window
from bayou.joint.codes import AUTOREGRESSION, GROUPS
from bayou.joint.structures import Shape
from bayou.joint.tables import Map
from bayou.linalg.sparse import Factor, factorise, log_determinant, new_factor
from bayou.linalg.symbolic import Symbolic, analyse
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.effects.base import Effect
    from bayou.model import Model

__all__ = [
    "Affine",
    "Sparse",
    "basis_of",
    "coordinates_of",
    "design_of",
    "factored",
    "plain",
    "prior_precision",
    "root_of",
]

Sparse: TypeAlias = scipy.sparse.csr_array
NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Affine:
    """A map of positions, with its inverse and its volume.

    Attributes
    ----------
    map
        As kernels take it.
    """

    map: Map

    @property
    def log_volume(self) -> float:
        """Log of the absolute determinant."""
        m, total = self.map, 0.0
        if len(m.theta_centre):
            total += float(np.linalg.slogdet(m.theta_root)[1])
        if m.sparse:
            return total - 0.5 * float(log_determinant(packed(m.symbolic), packed(m.factor)))
        return total + float(np.log(np.abs(np.diag(m.root))).sum())

    def inverse(self, Q: Array, d: int) -> Array:
        """Return positions from coordinates (S, size), the first d of which are hyperparameters."""
        m, out = self.map, np.array(Q, dtype=np.float64)
        if len(m.theta_centre):
            out[:, :d] = np.linalg.solve(m.theta_root, (Q[:, :d] - m.theta_centre).T).T
        if m.sparse:
            shifted = np.ascontiguousarray(Q[:, d:] - m.centre)
            result = np.empty_like(shifted)
            multiply(packed(m.symbolic), packed(m.factor), shifted, result)
            out[:, d:] = result
        else:
            out[:, d:] -= m.centre
            out[:, d + m.lead] = np.linalg.solve(m.root, out[:, d + m.lead].T).T
        return out


@kernel(entry=True)
def multiply(symbolic: Symbolic, factor: Factor, X: Array, out: Array) -> None:
    """Out (S, n) <- L' P x of each row of X: what `bayou.linalg.sparse.backward` turns into x."""
    S, n = X.shape
    for s in range(S):
        x, y = window(X, s * n, n), window(out, s * n, n)
        for j in range(n):
            at, t = symbolic.start[j], 0.0
            for e in range(symbolic.length[j]):
                t += factor.values[at + e] * x[symbolic.permutation[symbolic.rows[symbolic.row_at[j] + e]]]
            y[j] = t


def plain(
    centre: Array, lead: Integers, root: Array, theta_centre: Array | None = None, theta_root: Array | None = None
) -> Affine:
    """Return v = centre + root q for the leading numbers, centre + q for the others; and theta likewise if given."""
    own = {"n": 0, "last": 0, "supernodal": False, "flops": 0.0, "nnz": 0, "stored": 0}
    fields: dict[str, Any] = {name: own.get(name, NOTHING) for name in Symbolic._fields}
    empty = np.zeros(0)
    factor = Factor(empty, empty, empty, empty, empty, np.zeros((3, 0), dtype=np.int64))
    theta_centre, theta_root = _theta(theta_centre, theta_root)
    return Affine(
        Map(theta_centre, theta_root, _ordered(centre), lead, _ordered(root), 0, Symbolic(**fields), factor)
    )


def factored(
    precision: Sparse, centre: Array, theta_centre: Array, theta_root: Array
) -> Affine | None:
    """Return the map v = centre + L'⁻¹ q by the sparse factor of a precision; None if it is not definite."""
    indptr, indices, values = lower_values([scipy.sparse.csc_array(precision)])
    symbolic = analyse(indptr, indices)
    factor = new_factor(symbolic)
    if not factorise(packed(symbolic), np.ascontiguousarray(values[0]), packed(factor)):
        return None
    theta_centre, theta_root = _theta(theta_centre, theta_root)
    root = np.zeros((0, 0))
    return Affine(Map(theta_centre, theta_root, _ordered(centre), NOTHING, root, 1, symbolic, factor))


def _theta(centre: Array | None, root: Array | None) -> tuple[Array, Array]:
    if centre is None or root is None or not len(centre):
        return np.zeros(0), np.zeros((0, 0))
    return _ordered(centre), _ordered(root)


def _ordered(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)


# ---- the precision of the coordinates ------------------------------------------------------


def design_of(model: Model, parts: Sequence[Component], shapes: Sequence[Shape], roots: Sequence[Array]) -> Sparse:
    """Return what eta is of the coordinates of all effects, (n, M), each effect through a root of one copy."""
    columns = [Sparse((model.design.n, 0))]
    for part, shape, root in zip(parts, shapes, roots, strict=True):
        R = part.effect.replicates
        seen = _seen(model, part, shape)
        columns.append(Sparse(seen @ scipy.sparse.kron(scipy.sparse.eye_array(R), root, format="csr")))
    return Sparse(scipy.sparse.hstack(columns, format="csr"))


def _seen(model: Model, part: Component, shape: Shape) -> Sparse:
    """Return which coefficients of an effect each row sees, (n, size · copies)."""
    n, size = model.design.n, shape.size
    if part.grouping >= 0:
        g = model.design.groupings[part.grouping]
        column = (size * g.codes[:, None] + np.arange(size)).ravel()
        value, start = g.Z[:, list(part.columns)].ravel(), np.arange(0, n * size + 1, size)
    else:
        term = model.design.structured[part.term]
        column, value, start = size * term.replicate + term.node, term.value, term.start
    return Sparse((value, column, start), shape=(n, size * part.effect.replicates))


def root_of(effect: Effect, shape: Shape, theta: Array, scale: Array) -> Array:
    """Return M (size, coordinates) of one copy: coefficients = M z, at internal coordinates theta."""
    if shape.kind == GROUPS:
        return np.asarray(effect.factor(theta))  # type: ignore[attr-defined]
    if shape.kind == AUTOREGRESSION:
        return np.asarray(np.linalg.cholesky(effect.covariance(theta)))
    whole = np.ones(shape.ranks + shape.free)
    whole[: shape.ranks] = scale
    return np.asarray(shape.basis.T * whole)


def basis_of(shape: Shape) -> Array:
    """Return M of one copy for coordinates that are the coefficients themselves."""
    return np.eye(shape.size) if shape.kind in (GROUPS, AUTOREGRESSION) else np.ascontiguousarray(shape.basis.T)


def coordinates_of(shape: Shape, root: Array, u: Array, whitened: bool) -> Array:
    """Return coordinates (copies, …) of coefficients (copies, size); ``root`` is that of `root_of`."""
    if shape.kind in (GROUPS, AUTOREGRESSION):
        return np.asarray(np.linalg.solve(root, u.T).T if whitened else u)
    out = u @ shape.dual.T
    if whitened:
        out[:, : shape.ranks] /= np.linalg.norm(root[:, : shape.ranks], axis=0) / np.linalg.norm(
            shape.basis[: shape.ranks], axis=1
        )
    return np.asarray(out)


def prior_precision(effect: Effect, shape: Shape, theta: Array, scale: Array, whitened: bool) -> Array:
    """Return the prior precision of the coordinates of one copy."""
    out = np.zeros((shape.ranks + shape.free,) * 2)
    r = shape.ranks
    if whitened:
        out[:r, :r] = np.eye(r)
    elif shape.kind in (GROUPS, AUTOREGRESSION):
        out[:r, :r] = effect.dense(theta)
    else:
        out[:r, :r] = np.diag(scale**-2)
    return out
