"""Conjugate gradients, log determinants and traces without a factor, against dense matrices."""

import numpy as np
import pytest
import scipy.sparse as sp

from bayou.errors import DataError
from bayou.linalg import iterative, lanczos
from bayou.packed import packed
from sparse_zoo import crossed, dense, lattice, lower, nested, zoo

ZOO = zoo()
MOST = 500


def plain(pattern):
    indptr, indices, values = pattern
    pointers, columns, source = iterative.both_triangles(indptr, indices)
    return iterative.matrix(pointers, columns, values[source])


def schur(rng, p=2, J=80, R=40):
    """S = T − G'G as it is left by eliminating J blocks of p, and the same as a dense matrix."""
    rows = 6 * J
    level = np.arange(rows) % J
    other = rng.integers(0, R - 3, rows)
    Z = np.zeros((rows, J * p))
    for k in range(p):
        Z[np.arange(rows), level * p + k] = 1.0 if k == 0 else rng.standard_normal(rows)
    X = np.zeros((rows, R))
    X[np.arange(rows), other] = 1.0
    X[:, R - 3 :] = rng.standard_normal((rows, 3))
    A, C, D = Z.T @ Z + 0.8 * np.eye(J * p), Z.T @ X, X.T @ X + 0.3 * np.eye(R)
    start, touch, G = [0], [], []
    for j in range(J):
        own = slice(j * p, (j + 1) * p)
        seen = np.flatnonzero(np.abs(C[own]).sum(axis=0))
        G.append(np.linalg.solve(np.linalg.cholesky(A[own, own]), C[own][:, seen]).ravel())
        touch.append(seen)
        start.append(start[-1] + len(seen))
    T = plain(lower(sp.csc_matrix(D)))
    operator = T._replace(
        p=p, start=np.array(start), touch=np.concatenate(touch).astype(np.int64), G=np.concatenate(G)
    )
    return operator, D - C.T @ np.linalg.solve(A, C)


def cases():
    rng = np.random.default_rng(6)
    for name in ("one", "diagonal", "dense", "chain", "disconnected", "random", "lattice", "nested", "crossed"):
        yield name, plain(ZOO[name][0]), dense(ZOO[name][0])
    yield "schur", *schur(rng)
    yield "schur_scalar", *schur(rng, p=1, J=200, R=30)


CASES = {name: (operator, A) for name, operator, A in cases()}
BLOCKS = {
    "incomplete": lambda n: None,
    "diagonal": lambda n: np.arange(n),
    "blocks": lambda n: np.arange(0, n, 3),
    "uneven": lambda n: np.unique(np.array([0, n // 5, n // 2])),
    "whole": lambda n: np.array([0]),
}


def prepared(operator, kind, most=MOST):
    n = len(operator.indptr) - 1
    made = iterative.new_preconditioner(operator, BLOCKS[kind](n))
    run = iterative.new_run(n, most)
    forms = packed(operator), packed(made), packed(run)
    assert iterative.precondition(*forms[:2])
    return made, *forms


def preconditioner_matrix(made):
    n = len(made.indptr) - 1
    L = sp.csr_matrix((made.values, made.indices, made.indptr), shape=(n, n)).toarray()
    return L @ L.T


@pytest.mark.parametrize("name", CASES)
def test_the_operator(name, rng):
    operator, A = CASES[name]
    x, out = rng.standard_normal(len(A)), np.empty(len(A))
    iterative.apply(packed(operator), x, out)
    np.testing.assert_allclose(out, A @ x, rtol=1e-11, atol=1e-11 * np.abs(A).max())


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("name", CASES)
def test_the_preconditioner(name, kind):
    """On its pattern M is S; blocks are S there and zero elsewhere."""
    operator, A = CASES[name]
    n = len(A)
    made, *_ = prepared(operator, kind)
    M = preconditioner_matrix(made)
    inside = np.zeros((n, n), dtype=bool)
    inside[np.repeat(np.arange(n), np.diff(made.indptr)), made.indices] = True
    inside |= inside.T
    # none of these needs a shift
    np.testing.assert_allclose(M[inside], A[inside], rtol=0, atol=1e-12 * np.abs(A).max())
    if kind != "incomplete":
        np.testing.assert_array_equal(M[~inside], 0.0)
        first = np.append(BLOCKS[kind](n), n)
        assert inside.sum() == (np.diff(first) ** 2).sum()


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("name", CASES)
def test_conjugate_gradients(name, kind, rng):
    operator, A = CASES[name]
    _, o, m, run = prepared(operator, kind, most=2000)
    b = rng.standard_normal(len(A))
    expected = np.linalg.solve(A, b)
    x = np.zeros(len(A))
    steps, reached = iterative.conjugate_gradients(o, m, b, x, run, 1e-13)
    assert reached
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-12 * np.linalg.cond(A) * np.abs(expected).max())
    if kind == "whole":
        assert steps <= 2
    # from the answer there is nothing to do; nothing solves nothing
    again, reached = iterative.conjugate_gradients(o, m, b, x, run, 1e-8)
    assert (again, reached) == (0, True)
    steps, reached = iterative.conjugate_gradients(o, m, np.zeros(len(A)), x, run, 1e-8)
    assert (steps, reached) == (0, True)
    assert not x.any()


def test_preconditioners_pay(rng):
    """An incomplete factor needs fewer steps than the diagonal, of a lattice of 3,600 and of a Schur complement."""
    operator = plain(lower(lattice(60, 60, 1e-3)))
    b = rng.standard_normal(3600)
    steps = {}
    for kind in ("diagonal", "incomplete"):
        _, o, m, run = prepared(operator, kind)
        steps[kind], reached = iterative.conjugate_gradients(o, m, b, np.zeros(3600), run, 1e-8)
        assert reached
    assert steps["incomplete"] < 0.5 * steps["diagonal"]


def test_what_cannot_be_solved_is_told(rng):
    operator, A = CASES["lattice"]
    n = len(A)
    b, x = rng.standard_normal(n), np.zeros(n)
    _, o, m, run = prepared(operator, "diagonal", most=5)
    assert iterative.conjugate_gradients(o, m, b, x, run, 1e-10) == (5, False)
    for wrong in (-1.0, np.nan):
        spoiled = operator.values.copy()
        spoiled[operator.indices == np.repeat(np.arange(n), np.diff(operator.indptr))] *= wrong
        made = iterative.new_preconditioner(operator)
        assert not iterative.precondition(packed(operator._replace(values=spoiled)), packed(made))
    # an indefinite matrix behind a definite preconditioner
    turned = packed(operator._replace(values=-operator.values))
    assert not iterative.conjugate_gradients(turned, m, b, np.zeros(n), run, 1e-10)[1]
    assert not iterative.conjugate_gradients(o, m, np.full(n, np.nan), np.zeros(n), run, 1e-10)[1]


def test_a_shift_where_there_is_no_incomplete_factor(rng):
    """Kershaw's matrix is positive definite, and its incomplete factor without shift has a negative pivot."""
    A = np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]])
    assert np.linalg.eigvalsh(A).min() > 0
    operator = plain(lower(sp.csc_matrix(A)))
    made, o, m, run = prepared(operator, "incomplete")
    assert preconditioner_matrix(made)[0, 0] > 3.0
    b, x = rng.standard_normal(4), np.zeros(4)
    assert iterative.conjugate_gradients(o, m, b, x, run, 1e-12)[1]
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-9)


@pytest.mark.parametrize("kind", ["incomplete", "diagonal", "blocks"])
@pytest.mark.parametrize("name", [*CASES])
def test_log_determinant_and_trace(name, kind):
    """Within four of the standard errors that are given, or to rounding where the answer is exact."""
    operator, A = CASES[name]
    n = len(A)
    made, o, m, run = prepared(operator, kind, most=2000)
    count = 64
    probes = lanczos.random_signs(count, n)
    solutions, images = np.empty((count, n)), np.empty((count, n))
    found = lanczos.log_determinant(o, m, probes, solutions, images, run, 1e-9)
    expected = np.linalg.slogdet(A)[1]
    assert found.converged
    assert abs(found.log_determinant - expected) <= 4 * found.standard_error + 1e-7 * max(1.0, abs(expected))
    # the standard error of the mean is what the definition says, from the exact quadratic forms
    L = np.linalg.cholesky(preconditioner_matrix(made))
    inner = np.linalg.solve(L, np.linalg.solve(L, A).T)
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    forms = ((probes @ vectors) ** 2) @ np.log(values)
    exact = forms.mean() + 2 * np.log(L.diagonal()).sum()
    assert abs(found.log_determinant - exact) <= 1e-7 * max(1.0, abs(expected))
    np.testing.assert_allclose(
        found.standard_error, forms.std(ddof=1) / np.sqrt(count), rtol=1e-5, atol=1e-8 * max(1.0, abs(expected))
    )
    # tr(S⁻¹ B) for B = I, and for B = S, where the answer is n
    eye = iterative.matrix(np.arange(n + 1), np.arange(n), np.ones(n))
    mean, error = lanczos.trace(packed(eye), solutions, images, np.empty(n))
    inverse = np.trace(np.linalg.inv(A))
    assert abs(mean - inverse) <= 4 * error + 1e-7 * inverse
    mean, error = lanczos.trace(o, solutions, images, np.empty(n))
    assert abs(mean - n) <= 4 * error + 1e-6 * n


def test_the_standard_error_is_honest():
    """Over 200 sets of probes the distances from the truth, in standard errors, have variance one."""
    operator, A = CASES["crossed"]
    n, expected = len(A), np.linalg.slogdet(A)[1]
    _, o, m, run = prepared(operator, "diagonal")
    scaled = []
    for seed in range(200):
        probes = lanczos.random_signs(30, n, seed)
        found = lanczos.log_determinant(o, m, probes, np.empty((30, n)), np.empty((30, n)), run, 1e-8)
        scaled.append((found.log_determinant - expected) / found.standard_error)
    # t with 29 degrees of freedom: variance 1.07; the sd of a mean of 200 is .07
    assert abs(np.mean(scaled)) < 0.3
    assert 0.8 < np.std(scaled) < 1.3


def test_one_probe_knows_no_error():
    operator, _ = CASES["lattice"]
    n = len(operator.indptr) - 1
    _, o, m, run = prepared(operator, "incomplete")
    probes = lanczos.random_signs(1, n)
    found = lanczos.log_determinant(o, m, probes, np.empty((1, n)), np.empty((1, n)), run, 1e-8)
    assert found.standard_error == np.inf
    _, o, m, run = prepared(operator, "incomplete", most=2)
    assert not lanczos.log_determinant(o, m, probes, np.empty((1, n)), np.empty((1, n)), run, 1e-8).converged


def test_nested_and_crossed_at_some_size(rng):
    """A few thousand unknowns: as the incomplete factor is near the matrix, few probes do."""
    for A in (nested(500, 4, 3, rng), crossed(900, 300, 4000, 2, rng)):
        pattern = lower(A)
        operator = plain(pattern)
        n = A.shape[0]
        _, o, m, run = prepared(operator, "incomplete")
        probes = lanczos.random_signs(30, n)
        found = lanczos.log_determinant(o, m, probes, np.empty((30, n)), np.empty((30, n)), run, 1e-8)
        expected = np.linalg.slogdet(A.toarray())[1]
        assert found.converged
        assert found.standard_error < 2e-3 * abs(expected)
        assert abs(found.log_determinant - expected) <= 4 * found.standard_error + 1e-7 * abs(expected)


def test_empty():
    empty = np.zeros(0, dtype=np.int64)
    operator = iterative.matrix(np.zeros(1, dtype=np.int64), empty, np.zeros(0))
    _, o, m, run = prepared(operator, "incomplete")
    nothing = np.zeros(0)
    assert iterative.conjugate_gradients(o, m, nothing, nothing, run, 1e-8) == (0, True)
    probes = np.zeros((2, 0))
    assert lanczos.log_determinant(o, m, probes, probes, probes, run, 1e-8) == (True, 0.0, 0.0, 0)


def test_wrong_input_is_refused():
    operator, _ = CASES["lattice"]
    for wrong in ([1, 5], [0, 5, 5], [0, 10_000], []):
        with pytest.raises(DataError, match="first variables"):
            iterative.new_preconditioner(operator, np.array(wrong, dtype=np.int64))
    hollow = iterative.matrix(np.array([0, 1, 2]), np.array([1, 0]), np.ones(2))
    with pytest.raises(DataError, match="diagonal"):
        iterative.new_preconditioner(hollow)
    with pytest.raises(DataError, match="n \\+ 1 pointers"):
        iterative.matrix(np.array([0, 1]), np.array([0]), np.ones(2))
    with pytest.raises(DataError, match="at least one"):
        iterative.new_run(3, 0)
