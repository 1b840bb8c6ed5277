"""Symmetric sparse matrices as lower triangles by columns, several on one pattern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from bayou._types import Array, Integers

Matrix = Any
"""A matrix of `scipy.sparse`, which has no type hints, or a dense one where that is said."""


def lower_values(matrices: Sequence[Matrix]) -> tuple[Integers, Integers, Array]:
    """Return the union pattern of symmetric matrices, and the values of each on it.

    Parameters
    ----------
    matrices
        K sparse symmetric matrices (m, m).

    Returns
    -------
    indptr, indices
        The lower triangle with the whole diagonal, by columns, rows increasing.
    values
        (K, nnz).

    Examples
    --------
    >>> import scipy.sparse
    >>> lower_values([scipy.sparse.csc_array([[2.0, -1.0], [-1.0, 0.0]])])
    (array([0, 2, 3]), array([0, 1, 1]), array([[ 2., -1.,  0.]]))
    """
    m = matrices[0].shape[0]
    triangles = [scipy.sparse.tril(scipy.sparse.csc_array(A)).tocoo() for A in matrices]
    diagonal = np.arange(m, dtype=np.int64)
    keys = [t.col.astype(np.int64) * m + t.row for t in triangles]
    union = np.unique(np.concatenate([*keys, diagonal * (m + 1)]))
    values = np.zeros((len(matrices), len(union)))
    for k, (key, triangle) in enumerate(zip(keys, triangles, strict=True)):
        np.add.at(values[k], np.searchsorted(union, key), triangle.data)
    columns = union // m if m else union
    indptr = np.zeros(m + 1, dtype=np.int64)
    np.cumsum(np.bincount(columns, minlength=m), out=indptr[1:])
    return indptr, union - columns * m, values


def filled(indptr: Integers, indices: Integers, values: Array) -> Array:
    """Return the dense symmetric matrix of a lower triangle."""
    m = len(indptr) - 1
    out = np.zeros((m, m))
    columns = np.repeat(np.arange(m), np.diff(indptr))
    out[indices, columns] = values
    out[columns, indices] = values
    return out


def symmetric(indptr: Integers, indices: Integers, values: Array) -> Matrix:
    """Return the sparse symmetric matrix of a lower triangle."""
    m = len(indptr) - 1
    lower = scipy.sparse.csc_array((values, indices, indptr), shape=(m, m))
    return (lower + scipy.sparse.tril(lower, -1).T).tocsc()
