"""Small dense matrices against NumPy, at sizes on both sides of the call into LAPACK."""

import numpy as np
import pytest

from bayou.linalg import small

SIZES = [1, 2, 3, 5, small.BY_HAND, small.BY_HAND + 1, 60]


def definite(p, rng):
    A = rng.standard_normal((p, 2 * p))
    return A @ A.T / p


@pytest.mark.parametrize("p", SIZES)
def test_cholesky_and_solves(p, rng):
    A = definite(p, rng)
    L = np.full((p + 2, p + 2), np.nan)
    padded = np.full((p + 2, p + 2), np.nan)
    padded[:p, :p] = A
    assert small.cholesky(padded, L, p)
    lower = np.tril(L[:p, :p])
    np.testing.assert_allclose(lower, np.linalg.cholesky(A), rtol=1e-10, atol=1e-12)
    assert np.isnan(L[p:]).all()
    assert np.isnan(L[:, p:]).all()

    x = rng.standard_normal(p)
    forward, backward = x.copy(), x.copy()
    small.solve_lower(L, forward, p)
    small.solve_lower_transposed(L, backward, p)
    np.testing.assert_allclose(lower @ forward, x, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(lower.T @ backward, x, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(small.log_determinant(L, p), np.linalg.slogdet(A)[1], rtol=1e-10, atol=1e-10)

    work, inverse, product = np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))
    small.inverse_from_factor(L, work, inverse, p)
    np.testing.assert_allclose(inverse @ A, np.eye(p), atol=1e-8)
    np.testing.assert_allclose(work @ lower, np.eye(p), atol=1e-8)
    small.product_with_transpose(L, product, p)
    np.testing.assert_allclose(product, A, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", SIZES)
def test_cholesky_in_place_reads_and_writes_the_lower_triangle_only(p, rng):
    A = definite(p, rng)
    above = np.triu_indices(p, 1)
    A_ = A.copy()
    A_[above] = np.nan
    assert small.cholesky_in_place(A_)
    np.testing.assert_allclose(np.tril(A_), np.linalg.cholesky(A), rtol=1e-9, atol=1e-11)
    assert np.isnan(A_[above]).all()


@pytest.mark.parametrize("p", [2, small.BY_HAND + 5])
def test_indefinite_is_told(p, rng):
    A = definite(p, rng)
    A[p - 1, p - 1] = -1.0
    assert not small.cholesky(A, A.copy(), p)
    assert not small.cholesky_in_place(A.copy())
    A[0, 0] = np.nan
    assert not small.cholesky(A, A.copy(), p)
    assert not small.cholesky_in_place(A.copy())


def test_empty_matrix():
    assert small.cholesky_in_place(np.zeros((0, 0)))
    assert small.log_determinant(np.zeros((0, 0)), 0) == 0.0


def test_fill():
    A = np.ones((3, 4))
    small.fill(A, 2.5)
    assert (A == 2.5).all()


@pytest.mark.parametrize("p", [1, 2, 3])
def test_inverse_wishart_moments(p, rng):
    """E Sigma = S/(df − p − 1) and E Sigma⁻¹ = df S⁻¹, each element within 4 standard errors."""
    df, n = p + 20.5, 20_000
    S = definite(p, rng)
    L, work, T = np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))
    Sigma, precision = np.empty((n, p, p)), np.empty((n, p, p))
    for i in range(n):
        assert small.draw_inverse_wishart(df, S, L, work, T, p, rng)
        Sigma[i] = np.tril(L) @ np.tril(L).T
        precision[i] = np.linalg.inv(Sigma[i])
    for draws, mean in ((Sigma, S / (df - p - 1)), (precision, df * np.linalg.inv(S))):
        z = (draws.mean(axis=0) - mean) / (draws.std(axis=0) / np.sqrt(n))
        assert np.abs(z).max() < 4
    # the variances too: Var Sigma_kk = 2 S_kk² / ((df − p − 1)² (df − p − 3))
    expected = 2 * np.diag(S) ** 2 / ((df - p - 1) ** 2 * (df - p - 3))
    found = Sigma.var(axis=0).diagonal()
    np.testing.assert_allclose(found, expected, rtol=0.1)


def test_inverse_wishart_refuses_an_indefinite_scale(rng):
    S = np.array([[1.0, 2.0], [2.0, 1.0]])
    assert not small.draw_inverse_wishart(5.0, S, np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), 2, rng)
