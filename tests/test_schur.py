"""The blocked factorisation of Gaussian models against dense algebra."""

import numba
import numpy as np
import pytest

import oracle
from bayou.linalg.schur import draw, factorise
from bayou.sufficient import combine
from gaussian_models import STRUCTURES, build, point_of, prepared, put


@numba.njit
def _combine(cells, start, w, out):
    combine(cells, start, w, out)


def random_point(model, rng):
    return oracle.draw_from_prior(model, rng)


def factorised(model, point):
    """The state factorised at a point's covariances and residual sds; also log det and m'm."""
    sums, target, state = prepared(model)
    put(model, sums, target, state, point)
    K = len(target.levels)
    wide = max([1, *target.sizes])
    Q = np.zeros((max(K, 1), wide, wide))
    for position, g in enumerate(sums.order):
        p = int(target.sizes[position])
        Q[position, :p, :p] = np.linalg.inv(oracle.covariance(model, g, point.Sigma))
    w = 1 / point.dispersion**2
    if len(w) > 1:
        _combine(target.cells, target.arrow.start, w, target.arrow)
    weight = 1.0 if len(w) > 1 else float(w[0])
    ok, log_det, squares = factorise(target.arrow, target.border, weight, Q, state.factor)
    assert ok
    return sums, target, state, log_det, squares


@pytest.mark.parametrize("structure", STRUCTURES)
def test_determinant_and_quadratic(structure, rng):
    model = build(structure)
    for _ in range(3):
        point = random_point(model, rng)
        _, _, _, log_det, squares = factorised(model, point)
        A, w = oracle.dense(model), oracle.row_precision(model, point.dispersion)
        mean, prior = oracle.prior_of_coefficients(model, point.Sigma)
        precision = (A.T * w) @ A + prior
        # the kernels' coordinates have determinant one, up to sign
        np.testing.assert_allclose(log_det, np.linalg.slogdet(precision)[1], rtol=1e-10)
        # m'm = x̂' P x̂ in the kernels' coordinates: response and intercept less the shift
        sums = prepared(model)[0]
        shift = np.zeros(A.shape[1])
        if model.working.intercept is not None:
            shift[A.shape[1] - len(model.bound.beta_mean) :] = sums.shift * (
                model.working.to_printed @ model.working.shift_direction
            )
        best, _ = oracle.conditional(model, point.Sigma, point.dispersion)
        np.testing.assert_allclose(squares, (best - shift) @ precision @ (best - shift), rtol=1e-8)


def vector(point):
    return np.concatenate([*(values.ravel() for values in point.b), point.beta])


@pytest.mark.parametrize("structure", STRUCTURES)
def test_draws_have_the_conditional_mean_and_covariance(structure, rng):
    model = build(structure)
    point = random_point(model, rng)
    sums, target, state, _, _ = factorised(model, point)
    mean, V = oracle.conditional(model, point.Sigma, point.dispersion)
    n = 4000
    draws = np.empty((n, len(mean)))
    for i in range(n):
        draw(target.arrow, state.factor, state.rest, state.b, 0, rng)
        draws[i] = vector(point_of(model, sums, target, state))
    # in coordinates where the conditional is a standard normal
    z = np.linalg.solve(np.linalg.cholesky(V), (draws - mean).T)
    assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(n)
    second = z @ z.T / n
    assert np.abs(second - np.eye(len(mean))).max() < 5.5 * np.sqrt(2 / n)


def test_known_trailing_coefficients(rng):
    """With the last numbers of the rest given, the others have the Gaussian conditional on them."""
    model = build("crossed")
    point = random_point(model, rng)
    sums, target, state, _, _ = factorised(model, point)
    mean, V = oracle.conditional(model, point.Sigma, point.dispersion)
    # the last working coefficient is the printed slope
    given = mean[-1] + 2.0 * np.sqrt(V[-1, -1])
    n = 4000
    draws = np.empty((n, len(mean)))
    for i in range(n):
        state.rest[-1] = given
        draw(target.arrow, state.factor, state.rest, state.b, 1, rng)
        draws[i] = vector(point_of(model, sums, target, state))
    np.testing.assert_allclose(draws[:, -1], given)
    expected = mean[:-1] + V[:-1, -1] / V[-1, -1] * (given - mean[-1])
    spread = V[:-1, :-1] - np.outer(V[:-1, -1], V[:-1, -1]) / V[-1, -1]
    z = np.linalg.solve(np.linalg.cholesky(spread), (draws[:, :-1] - expected).T)
    assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(n)
    assert np.abs(z @ z.T / n - np.eye(len(z))).max() < 5.5 * np.sqrt(2 / n)


def test_indefinite_is_told():
    model = build("one factor")
    _, target, state = prepared(model)
    Q = -1e6 * np.eye(2)[None]
    assert not factorise(target.arrow, target.border, 1.0, Q, state.factor)[0]
