"""Nodes and weights of Gauss-Hermite quadrature for N(0, I), as adaptive quadrature uses them."""

from __future__ import annotations

import numpy as np

from bayou._types import Array

__all__ = ["hermite_grid", "hermite_rule", "normal_rule"]


def hermite_rule(nodes: int) -> tuple[Array, Array]:
    """Return the nodes x_k and log(w_k) + x_k²/2 of the rule ∫ g(x) N(x; 0, 1) dx ≈ Σ w_k g(x_k).

    The nodes are the eigenvalues of the Jacobi matrix of the orthonormal Hermite polynomials h_j (Golub and
    Welsch 1969). The weights follow Christoffel, 1/w_k = Σ_j h_j(x_k)², with h_j(x) exp(−x²/4) in place of
    h_j(x): its recurrence neither over- nor underflows, and gives w_k exp(x_k²/2) to full precision, however
    small w_k is.

    Parameters
    ----------
    nodes
        How many, 1 to 501; the rule is exact for polynomials up to degree 2 nodes − 1.

    Returns
    -------
    Both of shape (nodes,), the nodes in ascending order and symmetric about zero.

    Raises
    ------
    ValueError
        For a count outside 1 to 501 (beyond it the outermost weights leave the range of a double).

    Examples
    --------
    >>> x, log_weights = hermite_rule(3)
    >>> x.round(6).tolist()
    [-1.732051, 0.0, 1.732051]
    >>> np.exp(log_weights - x**2 / 2).round(6).tolist()
    [0.166667, 0.666667, 0.166667]
    """
    if not 1 <= nodes <= 501:
        raise ValueError(f"Gauss-Hermite quadrature takes 1 to 501 nodes, not {nodes}.")
    off = np.sqrt(np.arange(1.0, nodes))
    x = np.linalg.eigvalsh(np.diag(off, 1) + np.diag(off, -1))
    x = 0.5 * (x - x[::-1])
    before, now = np.zeros(nodes), np.exp(-0.25 * x * x)
    total = now * now
    for j in range(1, nodes):
        before, now = now, (x * now - np.sqrt(j - 1.0) * before) / np.sqrt(j)
        total += now * now
    return x, -np.log(total)


def normal_rule(nodes: int) -> tuple[Array, Array]:
    """Return points and weights (nodes,) of the rule for the standard normal density."""
    x, log_weights = hermite_rule(nodes)
    weights = np.exp(log_weights - 0.5 * np.square(x))
    return x, weights / weights.sum()


def hermite_grid(nodes: int, dimension: int) -> tuple[Array, Array]:
    """Return the product of `dimension` such rules: points (nodes**dimension, dimension), sums of log weights."""
    x, log_weights = hermite_rule(nodes)
    points = np.stack(np.meshgrid(*[x] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension)
    sums = np.stack(np.meshgrid(*[log_weights] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension).sum(1)
    return np.ascontiguousarray(points), np.ascontiguousarray(sums)
