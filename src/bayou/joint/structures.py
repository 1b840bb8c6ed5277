"""From the effects of a model to arrays for kernels: bases, eigenvalues, gaps in time, priors of covariances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse

from bayou._types import Array
from bayou.binding import log_density_block_internal
from bayou.conditional.field.component import Component
from bayou.effects.constrained import complement
from bayou.effects.iid import log_prior, tabulate
from bayou.errors import Unsupported
from bayou.joint.codes import AUTOREGRESSION, BASIS, GROUPS, MIXED_BASIS
from bayou.joint.tables import Parts
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.effects.base import Effect
    from bayou.model import Model

__all__ = ["Known", "Shape", "bind_parts", "shape_of", "unknown"]

DENSE = 2_000  # coefficients up to which a structure has a dense basis
LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Shape:
    """One effect as the kernels see it.

    Attributes
    ----------
    kind
        Of `bayou.joint.codes`.
    ranks, free
        Coordinates of one copy with a normal prior, and without one.
    size
        Coefficients of one copy that rows see.
    basis, dual
        (ranks + free, size): f = basis' coordinates, coordinates = dual f at sd one.
    weights
        (ranks,) eigenvalues, or (size − 1,) gaps in time.
    power
        Of the mixture of eigenvalues.
    whole
        Whether all gaps are whole numbers.
    """

    kind: int
    ranks: int
    free: int
    size: int
    basis: Array
    dual: Array
    weights: Array
    power: float = 0.0
    whole: bool = False


def shape_of(effect: Effect) -> Shape:
    """Return how the kernels see an effect.

    Raises
    ------
    Unsupported
        It has more coefficients than a dense basis may have.
    """
    none = np.zeros((0, 0))
    m = effect.size
    if effect.kind == "exchangeable":
        return Shape(GROUPS, m, 0, m, none, none, np.zeros(0))
    if effect.kind == "ar1":
        return Shape(AUTOREGRESSION, m, 0, m, none, none, effect.gaps, 0.0, effect.whole)  # type: ignore[attr-defined]
    if effect.observed > DENSE:
        raise Unsupported(
            f"The joint density takes structured effects of at most {DENSE:,} coefficients; {effect.kind} has "
            f"{effect.observed:,}. Use engine='inla' or engine='metropolis'."
        )
    if effect.kind in ("car", "leroux"):
        own = np.sqrt(effect.dense(np.array([0.0, -np.inf])).diagonal())  # at rho = 0 the precision is diagonal
        R = _second(effect) / np.outer(own, own)
        values, vectors = np.linalg.eigh(R)
        basis, dual = vectors.T / own, vectors.T * own
        return Shape(MIXED_BASIS, m, 0, m, basis.copy(), dual.copy(), np.maximum(values, 0.0), -0.5)
    if effect.kind == "bym2":
        covariance = effect.structure.covariance(np.zeros(1))  # type: ignore[attr-defined]
        values, vectors = np.linalg.eigh(covariance)
        n = effect.observed
        return Shape(MIXED_BASIS, n, 0, n, vectors.T.copy(), vectors.T.copy(), np.maximum(values, 0.0), 0.5)
    free = effect.free_basis(np.zeros(1))
    W = complement(np.vstack([effect.constraints, free.T]), m)
    values, vectors = scipy.linalg.eigh(W.T @ effect.dense(np.zeros(1)) @ W)
    root, whole = np.sqrt(values), (W @ vectors).T
    basis, dual = np.vstack([whole / root[:, None], free.T]), np.vstack([whole * root[:, None], free.T])
    return Shape(BASIS, effect.rank, free.shape[1], m, basis, dual, np.zeros(effect.rank))


def _second(effect: Effect) -> Array:
    """Return D − W of a graph, (m, m)."""
    graph = effect.graph  # type: ignore[attr-defined]
    return np.asarray(graph.R.toarray())


@dataclass(frozen=True, eq=False)
class Known:
    """The form of the coordinates of each effect, and what the data say of those that are conditional.

    Attributes
    ----------
    forms
        Of `bayou.joint.codes`, for each effect.
    order
        In which effects are built.
    curvature, right
        Of the data in the coefficients of each effect, empty where it is not conditional.
    cross_at
        First row of ``cross`` for each effect that follows fixed effects and others; −1 for those that do not.
    cross
        (coefficients of all that follow, P + all coefficients): how their ``right`` falls.
    """

    forms: tuple[int, ...]
    order: tuple[int, ...]
    curvature: tuple[Array, ...]
    right: tuple[Array, ...]
    cross_at: tuple[int, ...]
    cross: scipy.sparse.csr_array


def unknown(forms: Sequence[int]) -> Known:
    """Return forms of which none is conditional."""
    none = tuple(np.zeros(0) for _ in forms)
    return Known(tuple(forms), tuple(range(len(forms))), none, none, (-1,) * len(forms), scipy.sparse.csr_array((0, 1)))


def bind_parts(
    model: Model, parts: Sequence[Component], shapes: Sequence[Shape], known: Known
) -> tuple[Parts, float]:
    """Return all effects as arrays, and the constants of their log densities."""
    blocks = tabulate(model.bound.blocks)
    B = len(model.bound.blocks)
    exponents, matrix = np.zeros(B), np.zeros(B, dtype=np.int64)
    constant = 0.0
    for r, block in enumerate(model.bound.blocks):
        p = len(block.columns)
        matrix[r] = block.kind != "sds" and p > 1
        exponents[r] = 0.5 * p if matrix[r] else block.lkj + 0.5 * (p - 2.0)
        if matrix[r]:
            # at Sigma = I, where all but the prior of the matrix is zero
            theta, L = np.zeros(p * (p + 1) // 2), np.eye(blocks.A.shape[1])
            some = float(log_prior(packed(blocks), r, L, np.zeros_like(L)))
            constant += log_density_block_internal(block, parts[r].effect, theta) - some  # type: ignore[arg-type]
    copies = [part.effect.replicates for part in parts]
    constant -= 0.5 * LOG_2PI * sum(s.ranks * R for s, R in zip(shapes, copies, strict=True))
    P = model.working.X.shape[1]
    bases = [np.zeros(0), *(s.basis.ravel() for s in shapes)]
    duals = [np.zeros(0), *(s.dual.ravel() for s in shapes)]
    weights = [np.zeros(0), *(s.weights for s in shapes)]
    joined = Parts(
        kind=_integers(s.kind for s in shapes),
        form=_integers(known.forms),
        order=_integers(known.order),
        size=_integers(s.size for s in shapes),
        free=_integers(s.free for s in shapes),
        ranks=_integers(s.ranks for s in shapes),
        copies=_integers(copies),
        first=_integers(part.first for part in parts),
        at=_starts(s.size * R for s, R in zip(shapes, copies, strict=True)),
        start=P + _starts((s.ranks + s.free) * R for s, R in zip(shapes, copies, strict=True)),
        basis=_starts(s.basis.size for s in shapes),
        weight=_starts(len(s.weights) for s in shapes),
        power=np.array([s.power for s in shapes]),
        whole=_integers(s.whole for s in shapes),
        bases=np.concatenate(bases),
        duals=np.concatenate(duals),
        weights=np.concatenate(weights),
        blocks=blocks,
        exponents=exponents,
        matrix=matrix,
        curvature=np.concatenate([np.zeros(0), *known.curvature]),
        curvature_at=_starts(len(v) for v in known.curvature),
        right=np.concatenate([np.zeros(0), *known.right]),
        right_at=_starts(len(v) for v in known.right),
        cross_at=_integers(known.cross_at),
        cross_start=known.cross.indptr.astype(np.int64),
        cross_column=known.cross.indices.astype(np.int64),
        cross=known.cross.data.astype(np.float64),
    )
    return joined, constant


def _integers(values: object) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)  # type: ignore[call-overload]


def _starts(sizes: object) -> np.ndarray:
    """Return where each begins when they stand one after the other."""
    return np.concatenate([[0], np.cumsum(_integers(sizes))])[:-1].astype(np.int64)
