"""Ranks and aliases of columns, each column taken in its own unit."""

from __future__ import annotations

import numpy as np

from bayou._types import Array, Integers

MANY = 20_000  # rows from which products are formed first
SOUND = 1e-6  # smallest eigenvalue of the correlations, below which products have lost too many digits


def unit_columns(X: Array) -> Array:
    """Return the columns divided by their norms (columns of zeros stay)."""
    norms = np.linalg.norm(X, axis=0)
    norms[norms == 0.0] = 1.0
    return np.asarray(X / norms)


def centred(X: Array) -> Array:
    """Return the columns less their means where the first is an intercept, which leaves their span as it is.

    A clock in seconds since 1970, or a year, then differs from the intercept by what it tells and not by its last
    digits. What centring leaves of a constant column is rounding, and becomes zero.
    """
    if X.shape[1] < 2 or len(X) == 0 or not np.all(X[:, 0] == 1.0):
        return X
    out = X.copy()
    out[:, 1:] -= X[:, 1:].mean(axis=0)
    out[:, 1:] -= out[:, 1:].mean(axis=0)
    out[:, np.abs(out).max(axis=0) <= 1e-14 * np.abs(X).max(axis=0)] = 0.0
    return out


def triangle(X: Array) -> Array:
    """Return R of the QR decomposition of the columns, each in its own unit: the same ranks in few rows.

    Of many rows whose products show that the columns are far from dependent, by the Cholesky factor of these.
    """
    if X.shape[0] > MANY and X.shape[1]:
        product = X.T @ X
        norms = np.sqrt(np.diag(product))
        if norms.min() > 0.0 and np.isfinite(norms).all():
            correlation = product / np.outer(norms, norms)
            if np.linalg.eigvalsh(correlation)[0] > SOUND:
                return np.asarray(np.linalg.cholesky(correlation).T)
    unit = unit_columns(X)
    return np.asarray(np.linalg.qr(unit, mode="r")) if X.shape[0] > X.shape[1] else unit


def rank(X: Array) -> int:
    """Return the rank of the columns, each taken in its own unit."""
    if X.size == 0:
        return 0
    values = np.linalg.svd(triangle(X), compute_uv=False)
    return int(np.sum(values > 1e-10 * max(float(values[0]), 1e-300)))


def aliased_columns(X: Array) -> list[int]:
    """Return the columns that are linear combinations of the columns before them."""
    R = triangle(X)
    kept: list[int] = []
    out: list[int] = []
    for k in range(X.shape[1]):
        residual = R[:, k]
        if kept:
            residual = residual - R[:, kept] @ np.linalg.lstsq(R[:, kept], residual, rcond=None)[0]
        (kept if float(np.linalg.norm(residual)) > 1e-9 else out).append(k)
    return out


def indicator(groups: Integers, Z: Array) -> Array:
    """Return the dense columns (n, J p) of group coefficients; only for small problems."""
    levels, p = int(groups.max(initial=-1)) + 1, Z.shape[1]
    out = np.zeros((len(Z), levels, p))
    out[np.arange(len(Z)), groups] = Z
    return out.reshape(len(Z), levels * p)
