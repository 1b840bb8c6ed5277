"""Effects of areas that resemble their neighbours: `icar`, `car` and `leroux`.

With W the weights of the graph (symmetric, zero diagonal) and D its row sums,

    icar:    Q = (D − W) / sd²,                       sum to zero in every part of the graph,
    car:     Q = (D − rho W) / sd²,                   0 < rho < 1,
    leroux:  Q = ((1 − rho) I + rho (D − W)) / sd²,   0 < rho < 1; rho -> 0 gives sd² I.

An area without neighbours has nobody to resemble: it is N(0, sd²) on its own, without a constraint, in all of them.
Sources: Besag, York & Mollié (1991), Annals of the Institute of Statistical Mathematics 43; Leroux, Lei & Breslow
(2000), Estimation of disease rates in small areas; Freni-Sterrantino, Ventrucci & Rue (2018), see `scaling`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse

from bayou._types import Array, Integers
from bayou.effects.base import Effect, Hyperparameter, OneScale, expit, log_sd
from bayou.effects.constrained import Anchored
from bayou.effects.pattern import Matrix, lower_values, symmetric
from bayou.effects.scaling import component_scales
from bayou.errors import DataError
from bayou.linalg import selected, sparse
from bayou.linalg.symbolic import Symbolic, analyse
from bayou.packed import packed

DENSE = 2_000  # nodes up to which all eigenvalues are computed


class Neighbourhood:
    """A weighted graph as matrices.

    Parameters
    ----------
    m
        Number of nodes.
    edges
        (E, 2), each pair once.
    weights
        (E,) positive; those of zero are no edges.

    Attributes
    ----------
    W, D
        (m, m) sparse weights, and their row sums (m,), 1 for single nodes.
    R
        Diag(D) − W: positive definite on single nodes alone.
    components
        (m,): the part of the graph of each node, counted from 0 in the order of their first nodes.
    first
        The first node of each part of more than one node.
    """

    def __init__(self, m: int, edges: Integers, weights: Array | None = None) -> None:
        edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        weights = np.ones(len(edges)) if weights is None else np.asarray(weights, dtype=np.float64)
        if np.any(edges[:, 0] == edges[:, 1]) or len(edges) and (edges.min() < 0 or edges.max() >= m):
            raise DataError(f"The edges of a graph are pairs of different nodes from 0 to {m - 1}.")
        if not np.all(np.isfinite(weights)) or np.any(weights < 0.0):
            raise DataError("The weights of a graph are finite and not negative.")
        edges, weights = edges[weights > 0.0], weights[weights > 0.0]
        rows, columns = np.concatenate([edges, edges[:, ::-1]]).T if len(edges) else (edges[:, 0], edges[:, 1])
        self.W = scipy.sparse.csc_array((np.tile(weights, 2), (rows, columns)), shape=(m, m))
        self.D = np.asarray(self.W.sum(axis=1)).ravel()
        _, self.components = scipy.sparse.csgraph.connected_components(self.W, directed=False)
        count = np.bincount(self.components, minlength=0)
        _, first = np.unique(self.components, return_index=True)
        self.single = count[self.components] == 1
        self.first: Integers = np.asarray(first[count > 1], dtype=np.int64)
        self.D[self.single] = 1.0
        self.R = (scipy.sparse.diags_array(self.D) - self.W).tocsc()
        # constants on each part of more than one node, orthonormal
        number = np.cumsum(count > 1) - 1
        within = np.flatnonzero(~self.single)
        self.null = np.zeros((m, len(self.first)))
        self.null[within, number[self.components[within]]] = count[self.components[within]] ** -0.5


class Icar(OneScale):
    """`icar`: the intrinsic conditional autoregression.

    Parameters
    ----------
    graph
        The neighbourhood.
    scaled
        Whether each part of the graph has marginal variances of geometric mean sd²; else sd is that of Q above.
    replicates, scale
        As in `OneScale`.

    Examples
    --------
    >>> effect = Icar(Neighbourhood(4, np.array([[0, 1], [1, 2]])))
    >>> effect.constraints.round(3)
    array([[0.577, 0.577, 0.577, 0.   ]])
    >>> variances = effect.covariance(np.zeros(1)).diagonal()
    >>> round(float(np.prod(variances[:3])), 3), float(variances[3])
    (1.0, 1.0)
    """

    def __init__(self, graph: Neighbourhood, scaled: bool = True, replicates: int = 1, scale: float = 1.0) -> None:
        null, R = graph.null, graph.R
        if scaled:
            indptr, indices, values = lower_values([R])
            inverse = Anchored(indptr, indices, values[0], null)
            self.scales = component_scales(inverse, graph.components)[graph.components]
            R = (scipy.sparse.diags_array(self.scales) @ R).tocsc()
        self.graph = graph
        super().__init__("icar", R, null, null.T.copy(), graph.first, None, replicates, scale)

    @property
    def R(self) -> Matrix:
        """The structure, (m, m) sparse."""
        return symmetric(self.indptr, self.indices, self.matrices[0])

    @cached_property
    def spectrum(self) -> Array | None:
        """The positive eigenvalues of R, ascending; None when the graph is too large for all of them."""
        if self.size > DENSE:
            return None
        return np.linalg.eigvalsh(self.R.toarray())[self.size - self.rank :]


class Proximity(Effect):
    """`car` or `leroux`: proper, with rho between independence and the intrinsic autoregression.

    log|Q| = −2 m log sd + log|B| + Σ log((1 − rho) + rho v_i), with B = diag(D) and v the eigenvalues of
    I − D^(−1/2) W D^(−1/2) for `car`, B = I and those of D − W for `leroux`.

    Parameters
    ----------
    kind
        "car" or "leroux".
    graph
        The neighbourhood.
    replicates, scale
        As in `OneScale`.

    Examples
    --------
    >>> effect = Proximity("leroux", Neighbourhood(3, np.array([[0, 1], [1, 2]])))
    >>> effect.covariance(np.array([np.log(2.0), -40.0])).round(6)  # sd 2 and rho -> 0
    array([[4., 0., 0.],
           [0., 4., 0.],
           [0., 0., 4.]])
    """

    def __init__(self, kind: str, graph: Neighbourhood, replicates: int = 1, scale: float = 1.0) -> None:
        self.kind, self.graph, self.replicates = kind, graph, replicates
        m = self.size = self.observed = len(graph.D)
        self.hyperparameters = (log_sd(scale), Hyperparameter("rho", "", "logit", 0.0))
        own = graph.D if kind == "car" else np.ones(m)
        self._base = scipy.sparse.diags_array(own)
        second = graph.W if kind == "car" else graph.R
        self.indptr, self.indices, self.matrices = lower_values([self._base, second])
        self.constraints, self.anchors = np.zeros((0, m)), np.zeros(0, dtype=np.int64)
        self.null = 0
        self._log_base = float(np.log(own).sum())
        self._last: tuple[float, float, float] | None = None
        self._check()

    def coefficients(self, theta: Array) -> Array:
        """Return (1 − rho, rho) / sd² for `leroux`, (1, −rho) / sd² for `car`."""
        rho, other = expit(theta[1]), expit(-theta[1])
        pair = (1.0, -rho) if self.kind == "car" else (other, rho)
        return np.exp(-2.0 * theta[0]) * np.array(pair)

    def coefficient_slopes(self, theta: Array) -> Array:
        """Return their derivatives (2, 2) by log sd and logit rho."""
        slope = expit(theta[1]) * expit(-theta[1])
        pair = (0.0, -slope) if self.kind == "car" else (-slope, slope)
        return np.column_stack([-2.0 * self.coefficients(theta), np.exp(-2.0 * theta[0]) * np.array(pair)])

    def log_determinant(self, theta: Array) -> float:
        """Return log|Q|."""
        return self._of_rho(float(theta[1]))[0] + self._log_base - 2.0 * self.size * float(theta[0])

    def log_determinant_slopes(self, theta: Array) -> Array:
        """Return its gradient (2,)."""
        return np.array([-2.0 * self.size, self._of_rho(float(theta[1]))[1]])

    @cached_property
    def spectrum(self) -> Array | None:
        """The eigenvalues v, or None when the graph is too large for all of them."""
        if self.size > DENSE:
            return None
        A = self.graph.R.toarray()
        if self.kind == "car":
            root = np.sqrt(self.graph.D)
            # single nodes have D = 1 and no weights: v = 1
            A = A / np.outer(root, root)
        return np.maximum(np.linalg.eigvalsh(A), 0.0)

    def _of_rho(self, t: float) -> tuple[float, float]:
        """Return Σ log((1 − rho) + rho v_i) and its derivative by t."""
        if self._last is not None and self._last[0] == t:
            return self._last[1:]
        rho, other = expit(t), expit(-t)
        v = self.spectrum
        if v is not None:
            terms = other + rho * v
            value, slope = float(np.log(terms).sum()), float(((v - 1.0) / terms).sum()) * rho * other
        else:
            value, slope = self._by_factor(t)
        self._last = (t, value, slope)
        return value, slope

    @cached_property
    def _symbolic(self) -> tuple[Symbolic, Any, Any, Array]:
        symbolic = analyse(self.indptr, self.indices)
        return symbolic, packed(symbolic), packed(sparse.new_factor(symbolic)), np.empty(symbolic.stored)

    def _by_factor(self, t: float) -> tuple[float, float]:
        """Return the same by the sparse factor of sd² Q: tr(Q⁻¹ dQ) reads only elements on its pattern."""
        symbolic, s, factor, inverse = self._symbolic
        theta = np.array([0.0, t])
        if not sparse.factorise(s, self.values(theta), factor):
            raise DataError(f"{self.kind}: the precision at rho = {expit(t)!r} is not positive definite.")
        value = float(sparse.log_determinant(s, factor)) - self._log_base
        selected.selected_inverse(s, factor, inverse)
        change = self.coefficient_slopes(theta)[:, 1] @ self.matrices
        twice = np.full(len(change), 2.0)
        twice[self.indptr[:-1]] = 1.0
        return value, float((twice * change * inverse[symbolic.target]).sum())
