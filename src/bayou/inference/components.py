"""The covariance of a linear mixed model as a sum of components, and what second-order theory needs of it.

V = sigma² V₀, V₀ = Σ_r gamma_r G_r + W⁻¹, gamma_r the entries of the relative covariances of the grouping factors and
G_r = Z E_r Z' (E_r a symmetric matrix of zeros and ones). With S the block diagonal of those covariances and
N = Z'WZ,

    Z'V₀⁻¹Z = (I + N S)⁻¹ N,   Z'V₀⁻¹X = (I + N S)⁻¹ Z'WX,

which holds for singular S, and everything asked for is made of these; W⁻¹ = V₀ − Σ gamma_r G_r gives what belongs to
the residual. Levels that share no row, not even through others, fall apart into blocks of their own: nothing of size
n x n is formed, and one grouping factor costs as many small matrices as it has levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array, Integers
from bayou.errors import Unsupported

if TYPE_CHECKING:
    from bayou.model import Model

__all__ = ["Components", "components"]

LARGEST = 4_000  # coefficients of the groups that hang together: a dense matrix of them


@dataclass(frozen=True, eq=False)
class Components:
    """Sums over the rows, in units of sigma; r runs over the entries of the covariances, the residual last.

    Attributes
    ----------
    precision
        X'V₀⁻¹X (P, P), X in working coordinates.
    first
        X'V₀⁻¹G_rV₀⁻¹X, (r, P, P).
    second
        X'V₀⁻¹G_rV₀⁻¹G_sV₀⁻¹X, (r, r, P, P).
    traces
        tr V₀⁻¹G_rV₀⁻¹G_s, (r, r).
    """

    precision: Array
    first: Array
    second: Array
    traces: Array


@dataclass(frozen=True, eq=False)
class _Block:
    """All connected parts that have m coefficients each, C of them: arrays for one batched solve."""

    N: Array  # (C, m, m) Z'WZ
    NX: Array  # (C, m, P) Z'WX
    S: Array  # (C, m, m)
    places: list[Integers]  # by grouping factor: the first of each level's coefficients in the C m of the block


def components(model: Model, Sigma: list[Array], sigma: float) -> Components:
    """Sum over the rows of a model.

    Parameters
    ----------
    model
        With one residual sd.
    Sigma
        Covariance (p, p) of each grouping factor, in the order of the design.
    sigma
        The residual sd.

    Raises
    ------
    Unsupported
        If more than 4,000 coefficients of crossed factors hang together.
    """
    X, w = model.working.X, model.design.weights
    n, P = model.design.given, X.shape[1]
    entries = [
        (block.grouping, block.columns[i], block.columns[c])
        for block in model.bound.blocks
        for i in range(len(block.columns))
        for c in range(i + 1)
    ]
    relative = [matrix / sigma**2 for matrix in Sigma]
    gamma = np.array([relative[g][k, c] for g, k, c in entries])
    d = len(entries)
    precision = (X.T * w) @ X
    first, second = np.zeros((d + 1, P, P)), np.zeros((d + 1, d + 1, P, P))
    traces, single = np.zeros((d + 1, d + 1)), np.zeros(d)
    for block in _blocks(model, relative):
        C, m, _ = block.N.shape
        solved = np.linalg.solve(np.eye(m) + block.N @ block.S, np.concatenate([block.N, block.NX], axis=2))
        M = 0.5 * (solved[..., :m] + np.swapaxes(solved[..., :m], 1, 2))
        U = np.ascontiguousarray(solved[..., m:])
        precision -= np.tensordot(block.NX, block.S @ U, axes=([0, 1], [0, 1]))
        moved = [_entry(block, entry, U) for entry in entries]
        images = [_entry(block, entry, M) for entry in entries]
        for r in range(d):
            first[r] += np.tensordot(U, moved[r], axes=([0, 1], [0, 1]))
            single[r] += np.trace(images[r], axis1=1, axis2=2).sum()
            far = M @ moved[r]
            for s in range(d):
                second[s, r] += np.tensordot(moved[s], far, axes=([0, 1], [0, 1]))
                if s <= r:
                    traces[r, s] += np.einsum("cij,cji->", images[r], images[s])
                    traces[s, r] = traces[r, s]
    first[d] = precision - np.tensordot(gamma, first[:d], axes=1)
    for s in range(d):
        second[d, s] = first[s] - np.tensordot(gamma, second[:d, s], axes=1)
        second[s, d] = first[s] - np.tensordot(gamma, second[s, :d], axes=1)
    second[d, d] = first[d] - np.tensordot(gamma, second[:d, d], axes=1)
    traces[d, :d] = traces[:d, d] = single - traces[:d, :d] @ gamma
    traces[d, d] = n - 2.0 * gamma @ single + gamma @ traces[:d, :d] @ gamma
    return Components(precision, first, second, traces)


def _entry(block: _Block, entry: tuple[int, int, int], values: Array) -> Array:
    """Return E_r values for values (C, m, k)."""
    grouping, row, column = entry
    places = block.places[grouping]
    flat = values.reshape(-1, values.shape[2])
    out = np.zeros_like(flat)
    out[places + row] = flat[places + column]
    if row != column:
        out[places + column] = flat[places + row]
    return out.reshape(values.shape)


def _blocks(model: Model, Sigma: list[Array]) -> Iterator[_Block]:
    """Sort the levels into connected parts, and those by size."""
    groupings = model.design.groupings
    if not groupings:
        return
    counts = [len(g.levels) for g in groupings]
    begin = np.concatenate([[0], np.cumsum(counts)])
    part = _parts(model, begin)
    width = np.repeat([g.Z.shape[1] for g in groupings], counts)
    size = np.bincount(part, weights=width).astype(np.int64)
    if size.max() > LARGEST:
        raise Unsupported(
            f"Kenward-Roger's method needs a dense matrix of {size.max():,} coefficients that crossed factors tie "
            f"together; the limit is {LARGEST:,}. Use method='satterthwaite', which needs no such matrix."
        )
    order = np.argsort(part, kind="stable")
    local = np.empty(len(part), dtype=np.int64)
    before = np.cumsum(width[order]) - width[order]
    opens = np.concatenate([[0], np.cumsum(size)[:-1]])
    local[order] = before - opens[part[order]]
    of_row = part[begin[0] + groupings[0].codes]
    for m in np.unique(size):
        chosen = np.flatnonzero(size == m)
        position = np.full(len(size), -1, dtype=np.int64)
        position[chosen] = np.arange(len(chosen))
        rows = np.flatnonzero(position[of_row] >= 0)
        places = []
        for g in range(len(groupings)):
            own = slice(int(begin[g]), int(begin[g + 1]))
            at = position[part[own]]
            places.append((at * m + local[own])[at >= 0])
        yield _summed(model, Sigma, rows, position[of_row[rows]], local, begin, int(m), len(chosen), places)


def _parts(model: Model, begin: Integers) -> Integers:
    """Return which connected part each level belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groupings = model.design.groupings
    total = int(begin[-1])
    # pairs of a level of the first factor with one of another
    joined = [np.unique(groupings[0].codes * len(g.levels) + g.codes) for g in groupings[1:]]
    left = [pairs // len(g.levels) for pairs, g in zip(joined, groupings[1:], strict=True)]
    rest = zip(begin[1:], joined, groupings[1:], strict=False)
    right = [first + pairs % len(g.levels) for first, pairs, g in rest]
    i = np.concatenate([*left, np.zeros(0, dtype=np.int64)])
    j = np.concatenate([*right, np.zeros(0, dtype=np.int64)])
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(total, total))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _summed(
    model: Model,
    Sigma: list[Array],
    rows: Integers,
    position: Integers,
    local: Integers,
    begin: Integers,
    m: int,
    C: int,
    places: list[Integers],
) -> _Block:
    """Sum some rows into the parts that they belong to."""
    groupings, X = model.design.groupings, model.working.X[rows]
    w = model.design.weights[rows]
    whole = [(begin[g] + f.codes[rows], f.Z[rows]) for g, f in enumerate(groupings)]
    columns = [(level, k, Z[:, k]) for level, Z in whole for k in range(Z.shape[1])]
    at = [local[level] + k for level, k, _ in columns]
    N, NX = np.zeros(C * m * m), np.zeros((X.shape[1], C * m))
    for i, (_, _, z) in enumerate(columns):
        flat = position * m + at[i]
        wz = w * z
        for k in range(X.shape[1]):
            NX[k] += np.bincount(flat, weights=wz * X[:, k], minlength=C * m)
        for j, (_, _, other) in enumerate(columns):
            N += np.bincount(flat * m + at[j], weights=wz * other, minlength=C * m * m)
    S = np.zeros((C * m, m))
    for g, matrix in enumerate(Sigma):
        for k in range(len(matrix)):
            for c in range(len(matrix)):
                S[places[g] + k, places[g] % m + c] = matrix[k, c]
    return _Block(N.reshape(C, m, m), np.ascontiguousarray(NX.T).reshape(C, m, -1), S.reshape(C, m, m), places)
