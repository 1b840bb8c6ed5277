"""The factorisation of the whitened system against dense matrices: determinants, solutions, right-hand sides."""

import numpy as np
import pytest

from bayou.linalg.covariances import divided, invert, new_inverse, second_moments
from bayou.linalg.whitened import backward, centre_at, factorise_whitened, forward, modes
from bayou.packed import packed
from dense_system import STRUCTURES, colouring, dense

CASES = [
    pytest.param(formula, fixed, singular, id=f"{name}{', fixed' if fixed else ''}{', singular' if singular else ''}")
    for name, formula in STRUCTURES.items()
    for fixed in (True, False)
    for singular in ((False, True) if "|" in formula else (False,))
]


@pytest.mark.parametrize("formula,fixed,singular", CASES)
def test_determinants_and_squares(formula, fixed, singular, rng):
    system = dense(formula, rng, with_fixed=fixed, singular=singular)
    ok, log_det, log_det_fixed, squares = system.result
    assert ok
    effects = system.effects
    assert log_det == pytest.approx(np.linalg.slogdet(system.M[:effects, :effects])[1], abs=1e-10)
    whole = np.linalg.slogdet(system.M)[1] if len(system.M) else 0.0
    assert log_det + log_det_fixed == pytest.approx(whole, abs=1e-10)
    expected = system.right @ np.linalg.solve(system.M, system.right)
    assert squares == pytest.approx(expected, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("formula,fixed,singular", CASES)
def test_solutions(formula, fixed, singular, rng):
    system = dense(formula, rng, with_fixed=fixed, singular=singular)
    arrow, factor = packed(system.data.arrow), packed(system.factor)
    u, rest = np.full_like(system.data.arrow.a, np.nan), np.full_like(system.data.arrow.d, np.nan)
    modes(arrow, factor, system.n, u, rest)
    expected = system.split(np.linalg.solve(system.M, system.right))
    np.testing.assert_allclose(u, expected[0], atol=1e-11)
    np.testing.assert_allclose(rest, expected[1], atol=1e-11)  # zero where a column takes no part

    other = rng.normal(size=len(system.M))
    h, g = (x.copy() for x in system.split(other))
    squares = forward(arrow, factor, system.n, h, g)
    assert squares == pytest.approx(other @ np.linalg.solve(system.M, other), rel=1e-11, abs=1e-12)
    backward(arrow, factor, system.n, h, g)
    expected = system.split(np.linalg.solve(system.M, other))
    np.testing.assert_allclose(h, expected[0], atol=1e-11)
    np.testing.assert_allclose(g[: system.n], expected[1][: system.n], atol=1e-11)


@pytest.mark.parametrize("formula,fixed,singular", CASES)
def test_a_centre_comes_back(formula, fixed, singular, rng):
    system = dense(formula, rng, with_fixed=fixed, singular=singular)
    arrow, factor = packed(system.data.arrow), packed(system.factor)
    wanted = rng.normal(size=len(system.M))
    u, rest = system.split(wanted)
    centre_at(arrow, factor, system.n, u, rest)
    found, others = np.empty_like(u), np.empty_like(rest)
    modes(arrow, factor, system.n, found, others)
    np.testing.assert_allclose(found, u, atol=1e-11)
    np.testing.assert_allclose(others, rest, atol=1e-11)


@pytest.mark.parametrize("formula,fixed,singular", CASES)
def test_slopes_of_the_determinant(formula, fixed, singular, rng):
    """−T⁻ᵀ (Σ Cov(u) − J I), with a diagonal that is all but zero where it is singular: `Parameters.held`."""
    system = dense(formula, rng, with_fixed=fixed, singular=singular)
    if not system.effects:
        return
    for T in system.T:
        T[np.diag_indices(len(T))] = np.where(np.diag(T) == 0.0, 1e-7, np.diag(T))
    data, n = system.data, system.n
    inverse = new_inverse(data.arrow)
    parts = packed(data.arrow), packed(data.border)
    assert factorise_whitened(*parts, 1.0, system.T, n, packed(system.factor))[0]
    invert(system.factor.S, n, inverse.V)
    found = np.full_like(system.T, np.nan)
    moments = np.zeros_like(system.T)
    second_moments(*parts, packed(system.factor), n, packed(inverse), moments)
    J, p = data.arrow.a.shape
    for f, (q, levels) in enumerate(zip([p, *data.border.size], [J, *data.border.levels], strict=True)):
        moments[f, :q, :q] -= levels * np.eye(q)
        divided(system.T, f, q, moments, found)
    found = -found
    B = system.A.T @ (system.weights[:, None] * system.A)
    taken = J * p + n
    W = colouring(data, system.T)
    M = W.T @ B @ W + np.diag(np.arange(len(W)) < system.effects)
    M[system.effects :, system.effects :] += data.border.precision
    step = np.zeros_like(system.T)
    for f, q in enumerate([p, *data.border.size]):
        for k in range(q):
            for c in range(k + 1):
                step[:] = 0.0
                step[f, k, c] = 1.0
                dW = colouring(data, step) - colouring(data, 0.0 * step)
                dM = (W.T @ B @ dW)[:taken, :taken]
                slope = 2.0 * np.trace(np.linalg.solve(M[:taken, :taken], dM))
                assert 2.0 * found[f, k, c] == pytest.approx(slope, abs=1e-7 if singular else 1e-10)


def test_priors_of_the_fixed_effects_take_part(rng):
    system = dense("y ~ x + (x | g)", rng, priors=True)
    assert np.trace(system.data.border.precision) > 0.0
    ok, log_det, log_det_fixed, squares = system.result
    assert ok
    assert log_det + log_det_fixed == pytest.approx(np.linalg.slogdet(system.M)[1], abs=1e-10)
    assert squares == pytest.approx(system.right @ np.linalg.solve(system.M, system.right), rel=1e-11)


def test_a_variance_of_zero_leaves_the_fixed_effects_alone(rng):
    system = dense("y ~ x + (1 | g)", rng)
    T = np.zeros_like(system.T)
    data = system.data
    ok, log_det, log_det_fixed, _ = factorise_whitened(
        packed(data.arrow), packed(data.border), 1.0, T, system.n, packed(system.factor)
    )
    X = system.A[:, system.effects :]
    assert ok and log_det == 0.0
    assert log_det_fixed == pytest.approx(np.linalg.slogdet(X.T @ (system.weights[:, None] * X))[1], abs=1e-10)


def test_what_is_not_definite_is_said(rng):
    system = dense("y ~ x + (x | g)", rng)
    data = system.data
    data.arrow.D[-1, -1] = -1.0
    ok, *numbers = factorise_whitened(
        packed(data.arrow), packed(data.border), 1.0, system.T, system.n, packed(system.factor)
    )
    assert not ok and numbers == [0.0, 0.0, 0.0]
    data.arrow.A[2] = -50.0 * np.eye(2)
    ok, *_ = factorise_whitened(packed(data.arrow), packed(data.border), 1.0, system.T, system.n, packed(system.factor))
    assert not ok
