"""Symmetric positive definite matrices of many patterns, as lower triangles by columns."""

import numpy as np
import scipy.sparse as sp


def lower(A):
    """(indptr, indices, values) of the lower triangle, int64."""
    L = sp.tril(sp.csc_matrix(A)).tocsc()
    L.sort_indices()
    return L.indptr.astype(np.int64), L.indices.astype(np.int64), L.data.astype(np.float64)


def dense(pattern):
    indptr, indices, values = pattern
    n = len(indptr) - 1
    A = sp.csc_matrix((values, indices, indptr), shape=(n, n)).toarray()
    return A + np.tril(A, -1).T


def structure(pattern):
    """Which elements the pattern has, those that happen to be zero too."""
    indptr, indices, values = pattern
    return dense((indptr, indices, np.ones_like(values))) != 0


def sparse_definite(n, entries, rng, margin=0.5):
    """Random pattern, diagonally dominant by ``margin``."""
    rows, columns = rng.integers(0, n, (2, entries))
    B = sp.coo_matrix((rng.standard_normal(entries), (rows, columns)), shape=(n, n)).tocsc()
    B = B + B.T
    B.setdiag(0)
    return (B + sp.diags(np.asarray(abs(B).sum(axis=1)).ravel() + margin)).tocsc()


def walk(m):
    """Second differences of a random walk of order 2: D'D."""
    D = sp.diags([np.ones(m), -2 * np.ones(m), np.ones(m)], [0, 1, 2], shape=(m - 2, m))
    return (D.T @ D).tocsc()


def lattice(a, b, ridge=0.01):
    """The graph Laplacian of an a x b lattice (the precision of an ICAR), plus a ridge."""

    def laplacian(m):
        D = sp.diags([-np.ones(m), np.ones(m)], [0, 1], shape=(m - 1, m))
        return D.T @ D

    Q = sp.kron(sp.eye(a), laplacian(b)) + sp.kron(laplacian(a), sp.eye(b))
    return (Q + ridge * sp.eye(a * b)).tocsc()


def bordered(Q, columns, rng):
    """Q with dense trailing rows and columns, positive definite."""
    n = Q.shape[0]
    C = rng.standard_normal((n, columns))
    D = C.T @ sp.linalg.spsolve(Q.tocsc(), C).reshape(n, columns) + np.eye(columns)
    return sp.bmat([[Q, C], [C.T, D]]).tocsc()


def nested(outer, inner, columns, rng):
    """An outer factor, an inner one within it, dense fixed effects: Z'Z + G⁻¹ of random intercepts."""
    rows = 3 * outer * inner
    leaf = np.arange(rows) // 3
    Z = sp.hstack(
        [
            sp.csc_matrix((np.ones(rows), (np.arange(rows), leaf))),
            sp.csc_matrix((np.ones(rows), (np.arange(rows), leaf // inner))),
            sp.csc_matrix(rng.standard_normal((rows, columns))),
        ]
    )
    prior = np.concatenate([np.full(outer * inner, 2.0), np.full(outer, 0.7), np.full(columns, 0.1)])
    return (Z.T @ Z + sp.diags(prior)).tocsc()


def crossed(first, second, rows, columns, rng):
    """Two crossed factors and dense fixed effects."""
    at = np.arange(rows)
    Z = sp.hstack(
        [
            sp.csc_matrix((np.ones(rows), (at, rng.integers(0, first, rows))), shape=(rows, first)),
            sp.csc_matrix((np.ones(rows), (at, rng.integers(0, second, rows))), shape=(rows, second)),
            sp.csc_matrix(rng.standard_normal((rows, columns))),
        ]
    )
    return (Z.T @ Z + sp.diags(np.full(first + second + columns, 0.5))).tocsc()


def zoo():
    """name -> (pattern, trailing columns)."""
    rng = np.random.default_rng(4)
    blocks = sp.block_diag([lattice(4, 5), sparse_definite(1, 0, rng), sparse_definite(30, 60, rng), walk(9) + sp.eye(9)])
    B = rng.standard_normal((40, 90))
    arrow = sp.diags(np.full(50, 60.0)).tolil()
    arrow[0, :] = arrow[:, 0] = 1.0
    arrow[0, 0] = 60.0
    shuffled = rng.permutation(97)
    found = {
        "empty": (sp.csc_matrix((0, 0)), 0),
        "one": (sp.csc_matrix([[2.5]]), 0),
        "one_trailing": (sp.csc_matrix([[2.5]]), 1),
        "two": (sp.csc_matrix([[2.0, -1.0], [-1.0, 3.0]]), 0),
        "diagonal": (sp.diags(np.arange(1.0, 31.0)), 0),
        "diagonal_trailing": (sp.diags(np.arange(1.0, 31.0)), 4),
        "dense": (sp.csc_matrix(B @ B.T), 0),
        "dense_trailing": (sp.csc_matrix(B @ B.T), 7),
        "arrow_first": (arrow.tocsc(), 0),
        "chain": (walk(200) + 0.1 * sp.eye(200), 0),
        "disconnected": (blocks, 0),
        "disconnected_trailing": (blocks, 3),
        "random": (sparse_definite(150, 250, rng), 0),
        "random_dense": (sparse_definite(120, 1500, rng), 2),
        "lattice": (lattice(13, 17), 0),
        "lattice_second_order": (lattice(9, 11, 0.0) @ lattice(9, 11, 0.0) + 0.05 * sp.eye(99), 0),
        "lattice_bordered": (bordered(lattice(8, 9), 3, rng), 3),
        "nested": (nested(15, 4, 5, rng), 5),
        "nested_shuffled": (nested(15, 4, 5, rng)[:75, :75], 0),
        "crossed": (crossed(60, 35, 300, 2, rng)[shuffled][:, shuffled], 0),
        "crossed_trailing": (crossed(60, 35, 300, 2, rng), 2),
    }
    return {name: (lower(A), last) for name, (A, last) in found.items()}
