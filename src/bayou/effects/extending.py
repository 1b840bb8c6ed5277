"""Values of a structure of time at new points, given those at its nodes: the joint structure, conditioned."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from bayou._types import Array, Integers
from bayou.effects.pattern import Matrix
from bayou.errors import DataError


def placed(old: Array, new: Array, also: Array | None = None) -> tuple[Array, Integers, Integers]:
    """Return the sorted union of points, and where old and new ones stand in it.

    Points nearer than 1e-9 of the smallest gap between old ones are the same. ``also`` are points in between that
    the structure needs.
    """
    if new.ndim != 1 or not np.all(np.isfinite(new)):
        raise DataError("new points of time must be finite numbers.")
    tolerance = 1e-9 * float(np.diff(old).min(initial=1.0))
    everything = np.concatenate([old, new] if also is None else [old, new, also])
    order = np.argsort(everything, kind="stable")
    fresh = np.concatenate([[True], np.diff(everything[order]) > tolerance])
    at = np.empty(len(everything), dtype=np.int64)
    at[order] = np.cumsum(fresh) - 1
    union = everything[order][fresh]
    union[at[: len(old)]] = old
    return union, at[: len(old)], at[len(old) : len(old) + len(new)]


def conditional(Q: Matrix, old_at: Integers, new_at: Integers) -> tuple[Array, Array]:
    """Return W and V: x[new] | x[old] ~ N(W x[old], V) for precision Q; points that are old ones repeat them."""
    place = np.full(Q.shape[0], -1)
    place[old_at] = np.arange(len(old_at))
    is_old = place >= 0
    fresh = np.flatnonzero(~is_old)
    W = np.zeros((len(new_at), len(old_at)))
    V = np.zeros((len(new_at), len(new_at)))
    again = np.flatnonzero(is_old[new_at])
    W[again, place[new_at[again]]] = 1.0
    if len(fresh) == 0:
        return W, V
    place[fresh] = np.arange(len(fresh))
    rows = Q.tocsr()[fresh].tocsc()
    covariance = scipy.linalg.cho_solve(scipy.linalg.cho_factor(rows[:, fresh].toarray()), np.eye(len(fresh)))
    asked = np.flatnonzero(~is_old[new_at])
    chosen = place[new_at[asked]]
    # few columns of the cross part are not zero: the neighbours of the new points
    cross = rows[:, old_at].tocsr()
    W[asked] = -(cross.T @ covariance[:, chosen]).T
    V[np.ix_(asked, asked)] = covariance[np.ix_(chosen, chosen)]
    return W, 0.5 * (V + V.T)


def square_root(V: Array) -> Array:
    """Return a matrix B with B B' = V, also where V is singular."""
    values, vectors = np.linalg.eigh(V)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
