"""Effects whose covariance is known up to a factor: x ~ N(0, sd² A), A a relationship matrix or the inverse of one."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from bayou.effects.base import OneScale
from bayou.effects.constrained import Anchored
from bayou.effects.pattern import Matrix, lower_values
from bayou.errors import DataError

ROUNDING = 1e-12  # elements of an inverse below this part of √(P_ii P_jj) are rounding
SINGULAR = 1e12  # Q_ii (Q⁻¹)_ii, the variance of a level over that given all others, beyond which it is rounding
DENSE = 3_000  # levels up to which the smallest eigenvalue is computed exactly for a message


class Known(OneScale):
    """`(1 | g, covariance=A)` or `(1 | g, precision=P)`: Q = A⁻¹ / sd² or P / sd².

    Parameters
    ----------
    covariance, precision
        One of them: (m, m) symmetric positive definite, dense or sparse. The inverse of a covariance keeps only
        what is more than rounding: that of a pedigree is sparse.
    replicates, scale
        As in `OneScale`.

    Raises
    ------
    DataError
        It is not positive definite; the smallest eigenvalue is named.

    Examples
    --------
    >>> Known(covariance=np.array([[1.0, 0.5], [0.5, 1.0]])).covariance(np.zeros(1)).round(3)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """

    def __init__(
        self,
        covariance: Matrix | None = None,
        precision: Matrix | None = None,
        replicates: int = 1,
        scale: float = 1.0,
    ) -> None:
        if (covariance is None) == (precision is None):
            raise DataError("a known structure takes a covariance or a precision, one of the two.")
        word, matrix = ("covariance", covariance) if precision is None else ("precision", precision)
        P = inverted(matrix) if precision is None else scipy.sparse.csc_array(matrix)
        indptr, indices, values = lower_values([P])
        m = P.shape[0]
        none = np.zeros((m, 0))
        try:
            inverse = Anchored(indptr, indices, values[0], none)
        except DataError:
            raise not_definite(word, matrix) from None
        if np.max(inverse.diagonal() * P.diagonal(), initial=1.0) > SINGULAR:  # rounding alone lets it be factorised
            raise not_definite(word, matrix)
        anchors = np.zeros(0, dtype=np.int64)
        super().__init__("known", P, none, np.zeros((0, m)), anchors, inverse, replicates, scale)


def inverted(covariance: Matrix) -> Matrix:
    """Return the inverse of a covariance as a sparse matrix, without what is rounding."""
    dense = covariance.toarray() if scipy.sparse.issparse(covariance) else np.asarray(covariance, dtype=np.float64)
    sds = np.sqrt(np.abs(np.diag(dense)))
    if not np.all(np.isfinite(dense)) or np.any(sds == 0.0):
        raise not_definite("covariance", covariance)
    try:
        root = np.linalg.inv(np.linalg.cholesky(dense / np.outer(sds, sds)))
    except np.linalg.LinAlgError:
        raise not_definite("covariance", covariance) from None
    P = root.T @ root
    size = np.sqrt(np.diag(P))
    P[np.abs(P) <= ROUNDING * np.outer(size, size)] = 0.0
    return scipy.sparse.csc_array(P / np.outer(sds, sds))


def not_definite(word: str, matrix: Matrix) -> DataError:
    """Return the error that names the smallest eigenvalue."""
    m = matrix.shape[0]
    dense = matrix.toarray() if scipy.sparse.issparse(matrix) and m <= DENSE else matrix
    if m <= DENSE:
        if not np.all(np.isfinite(dense)):
            return DataError(f"{word} has values that are not finite numbers.")
        smallest = float(np.linalg.eigvalsh(dense)[0])
    else:
        sparse_matrix = scipy.sparse.csc_array(matrix)
        smallest = float(scipy.sparse.linalg.eigsh(sparse_matrix, 1, which="SA", return_eigenvectors=False)[0])
    if smallest <= -1e-8:
        hint = f" A {word} matrix has only positive eigenvalues: look for a wrong entry."
    elif word == "covariance":
        hint = " Leave out duplicates (twins, clones), or add a little to the diagonal."
    else:
        hint = " Add a little to the diagonal; icar, rw1 and rw2 are for structures without a level of their own."
    return DataError(f"the {m} x {m} {word} is not positive definite: its smallest eigenvalue is {smallest:.4g}.{hint}")
