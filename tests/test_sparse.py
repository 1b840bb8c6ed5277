"""Sparse Cholesky against dense matrices, on every pattern of the zoo, by columns and by blocks."""

import threading

import numpy as np
import pytest

from bayou.errors import DataError
from bayou.linalg import sparse
from bayou.linalg.symbolic import analyse, position, positions
from bayou.packed import packed
from sparse_zoo import dense, lattice, lower, structure, zoo

ZOO = zoo()
WAYS = [(order, supernodal) for order in ("minimum_degree", "natural") for supernodal in (False, True)]


@pytest.fixture(params=ZOO)
def case(request):
    return ZOO[request.param]


def factored(pattern, **how):
    indptr, indices, values = pattern
    symbolic = analyse(indptr, indices, **how)
    factor = sparse.new_factor(symbolic)
    form = packed(symbolic), packed(factor)
    assert sparse.factorise(form[0], values, form[1])
    return symbolic, factor, *form


def as_matrix(symbolic, factor):
    """L as a dense matrix, in the order of elimination."""
    L = np.zeros((symbolic.n, symbolic.n))
    for j in range(symbolic.n):
        count, at, rows = symbolic.length[j], symbolic.start[j], symbolic.row_at[j]
        L[symbolic.rows[rows : rows + count], j] = factor.values[at : at + count]
    return L


@pytest.mark.parametrize(("order", "supernodal"), WAYS)
def test_against_dense(case, order, supernodal, rng):
    pattern, last = case
    A = dense(pattern)
    n = len(A)
    symbolic, factor, s, f = factored(pattern, order=order, last=last, supernodal=supernodal)
    P = symbolic.permutation
    assert np.array_equal(np.sort(P), np.arange(n))
    assert np.array_equal(P[n - last :], np.arange(n - last, n))
    L = as_matrix(symbolic, factor)
    scale = np.abs(A).max(initial=1.0)
    np.testing.assert_allclose(L @ L.T, A[np.ix_(P, P)], rtol=0, atol=1e-13 * n * scale)
    np.testing.assert_allclose(np.diag(L) > 0, True)
    expected = np.linalg.slogdet(A)[1] if n else 0.0
    assert abs(sparse.log_determinant(s, f) - expected) <= 1e-10 * max(1.0, abs(expected))
    x = rng.standard_normal(n)
    found = x.copy()
    sparse.solve(s, f, found)
    np.testing.assert_allclose(found, np.linalg.solve(A, x), rtol=1e-10, atol=1e-10 * np.abs(found).max(initial=0))


@pytest.mark.parametrize("supernodal", [False, True])
def test_counts(case, supernodal):
    """Numbers in L and multiplications, as elimination on sets counts them."""
    pattern, last = case
    symbolic = analyse(*pattern[:2], last=last, supernodal=supernodal)
    P, n = symbolic.permutation, symbolic.n
    filled = structure(pattern)[np.ix_(P, P)]
    if last:  # trailing columns count as dense
        filled[n - last :, n - last :] = True
    flops = 0
    for j in range(n):
        below = np.flatnonzero(filled[j + 1 :, j]) + j + 1
        filled[np.ix_(below, below)] = True
        flops += len(below) * (len(below) + 3) // 2
    assert symbolic.nnz == np.tril(filled).sum()
    assert symbolic.flops == flops
    # the tree: the first entry below each diagonal
    for j in range(n):
        below = np.flatnonzero(filled[j + 1 :, j])
        if len(below):
            assert symbolic.parent[j] == j + 1 + below[0]
    # every entry of L has its place, and by columns nothing else has
    rows, columns = np.nonzero(np.tril(filled))
    found = positions(symbolic, P[rows], P[columns])
    assert (found >= 0).all()
    assert len(set(found)) == len(found)
    if not supernodal:
        assert symbolic.stored == symbolic.nnz
        rows, columns = np.nonzero(~(filled | filled.T))
        assert (positions(symbolic, P[rows], P[columns]) == -1).all()


def test_the_choice_follows_the_multiplications():
    chain, square = lower(lattice(1, 400)), lower(lattice(100, 100))
    assert not analyse(*chain[:2]).supernodal
    assert analyse(*square[:2]).supernodal


def test_positions_of_both_triangles_and_of_one_pair():
    pattern, last = ZOO["nested"]
    symbolic = analyse(*pattern[:2], last=last)
    rows, columns = np.arange(0, 70), np.arange(70, 0, -1)
    found = positions(symbolic, rows, columns)
    np.testing.assert_array_equal(found, positions(symbolic, columns, rows))
    form = packed(symbolic)
    assert [position(form, int(i), int(j)) for i, j in zip(rows, columns, strict=True)] == list(found)
    assert positions(symbolic, np.zeros((2, 0)), 0).shape == (2, 0)


@pytest.mark.parametrize(("order", "supernodal"), WAYS)
def test_halves_of_a_solve(order, supernodal, rng):
    """|forward|² = x'A⁻¹x; backward of unit vectors W has W W' = A⁻¹."""
    pattern, last = ZOO["crossed_trailing"]
    symbolic, _, s, f = factored(pattern, order=order, last=last, supernodal=supernodal)
    inverse = np.linalg.inv(dense(pattern))
    n = symbolic.n
    x, out = rng.standard_normal(n), np.empty(n)
    sparse.forward(s, f, x, out)
    np.testing.assert_allclose(out @ out, x @ inverse @ x, rtol=1e-11)
    W = np.empty((n, n))
    for k in range(n):
        unit = np.zeros(n)
        unit[k] = 1.0
        sparse.backward(s, f, unit, out)
        W[:, k] = out
    np.testing.assert_allclose(W @ W.T, inverse, rtol=0, atol=1e-12 * np.abs(inverse).max())
    # backward(z) is N(0, A⁻¹) for standard normal z, and draw takes z from the generator
    z = np.random.default_rng(8).standard_normal(n)
    drawn = np.empty(n)
    sparse.draw(s, f, np.random.default_rng(8), drawn)
    np.testing.assert_allclose(drawn, W @ z, rtol=0, atol=1e-12 * np.abs(drawn).max())


def test_covariance_of_draws(rng):
    """Each element of the mean outer product within 5 of its standard errors."""
    pattern, _ = ZOO["lattice"]
    symbolic, _, s, f = factored(pattern)
    inverse = np.linalg.inv(dense(pattern))
    count = 4000
    draws = np.empty((count, symbolic.n))
    for row in draws:
        sparse.draw(s, f, rng, row)
    error = np.sqrt((np.outer(inverse.diagonal(), inverse.diagonal()) + inverse**2) / count)
    assert (np.abs(draws.T @ draws / count - inverse) / error).max() < 5.5


@pytest.mark.parametrize(("order", "supernodal"), WAYS)
@pytest.mark.parametrize("name", ["two", "dense", "lattice", "nested", "crossed", "diagonal", "disconnected"])
def test_not_definite_is_told(name, order, supernodal):
    pattern, _ = ZOO[name]
    indptr, indices, values = pattern
    symbolic = analyse(indptr, indices, order=order, supernodal=supernodal)
    factor = sparse.new_factor(symbolic)
    s, f = packed(symbolic), packed(factor)
    n = symbolic.n
    for at in (0, n // 2, n - 1):
        for wrong in (-1.0, 0.0, np.nan, np.inf, -np.inf):
            spoiled = values.copy()
            spoiled[indptr[at]] = wrong
            assert not sparse.factorise(s, spoiled, f)
    off = np.setdiff1d(np.arange(len(values)), indptr[:-1])
    for q in off[:: max(1, len(off) // 5)]:
        for wrong in (np.nan, np.inf, 1e4 * np.abs(values).max()):
            spoiled = values.copy()
            spoiled[q] = wrong
            assert not sparse.factorise(s, spoiled, f)
    # and the same scratch works again
    assert sparse.factorise(s, values, f)
    expected = np.linalg.slogdet(dense(pattern))[1]
    assert abs(sparse.log_determinant(s, f) - expected) <= 1e-10 * max(1.0, abs(expected))


def test_threads_with_factors_of_their_own():
    indptr, indices, values = lower(lattice(60, 60))
    symbolic = analyse(indptr, indices, supernodal=True)
    s = packed(symbolic)
    diagonal = indptr[:-1]
    found = {}

    def work(k):
        factor = sparse.new_factor(symbolic)
        f = packed(factor)
        mine = values.copy()
        mine[diagonal] += 0.1 * k
        for _ in range(20):
            assert sparse.factorise(s, mine, f)
        found[k] = sparse.log_determinant(s, f)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eigenvalues = np.add.outer(*[2 - 2 * np.cos(np.pi * np.arange(60) / 60)] * 2).ravel() + 0.01
    for k in range(4):
        np.testing.assert_allclose(found[k], np.log(eigenvalues + 0.1 * k).sum(), rtol=1e-11)


def test_a_given_order():
    pattern, _ = ZOO["random"]
    order = np.random.default_rng(0).permutation(150)
    symbolic, _, s, f = factored(pattern, order=order)
    assert np.array_equal(np.sort(symbolic.permutation), np.arange(150))
    # as many numbers as elimination in just this order
    filled = structure(pattern)[np.ix_(order, order)]
    for j in range(150):
        below = np.flatnonzero(filled[j + 1 :, j]) + j + 1
        filled[np.ix_(below, below)] = True
    assert symbolic.nnz == np.tril(filled).sum()
    np.testing.assert_allclose(sparse.log_determinant(s, f), np.linalg.slogdet(dense(pattern))[1], rtol=1e-11)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, i: (p.astype(np.int32), i, {}), "int64"),
        (lambda p, i: (p[:0], i, {}), "int64"),
        (lambda p, i: (p[:-1], i, {}), "end at the number of rows"),
        (lambda p, i: (p, i[::-1].copy(), {}), "starts with its diagonal"),
        (lambda p, i: (p, np.where(i == 2, 9, i), {}), "starts with its diagonal"),
        (lambda p, i: (p, np.array([0, 2, 2, 1, 2]), {}), "must increase"),
        (lambda p, i: (p, i, {"last": 4}), "last=4"),
        (lambda p, i: (p, i, {"last": -1}), "last=-1"),
        (lambda p, i: (p, i, {"order": "metis"}), "metis"),
        (lambda p, i: (p, i, {"order": np.array([0, 0, 1])}), "permutation"),
        (lambda p, i: (p, i, {"order": np.array([2, 0, 1]), "last": 1}), "in place"),
    ],
)
def test_wrong_patterns_are_refused(change, message):
    indptr, indices = np.array([0, 3, 4, 5]), np.array([0, 1, 2, 1, 2])
    wrong_indptr, wrong_indices, how = change(indptr, indices)
    with pytest.raises(DataError, match=message):
        analyse(wrong_indptr, wrong_indices, **how)


def test_wrong_positions_are_refused():
    symbolic = analyse(np.array([0, 1, 2]), np.array([0, 1]))
    for wrong in (-1, 2):
        with pytest.raises(DataError, match="go from 0 to 1"):
            positions(symbolic, np.array([wrong]), np.array([0]))
