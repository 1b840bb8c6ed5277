"""Quasi-Newton descent by reverse communication, on functions whose minimum is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bayou.engines.marginal.descent import (
    CONVERGED,
    DECREMENT,
    EVALUATIONS,
    GOING,
    LIMIT,
    LONGEST,
    NOISE,
    SPENT,
    STALLED,
    VALUE,
    advance,
    new_descent,
)

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]


def descend(of: Function, x: np.ndarray, H: np.ndarray | None = None, noise: float = 0.0):
    """Go down from x; the state at the end and how it ended."""
    state = new_descent(x, np.eye(len(x)) if H is None else H.copy())
    state.facts[NOISE] = noise
    status = GOING
    while status == GOING:
        value, slope = of(state.trial)
        status = advance(state, float(value), np.asarray(slope, dtype=np.float64))
    return state, status


@pytest.mark.parametrize("d", [1, 2, 7])
def test_a_quadratic_with_its_own_curvature_takes_one_step(d, rng):
    A = rng.normal(size=(d, d))
    A = A @ A.T + np.eye(d)
    top = rng.normal(size=d)
    state, status = descend(lambda x: (0.5 * (x - top) @ A @ (x - top), A @ (x - top)), np.zeros(d), np.linalg.inv(A))
    assert status == CONVERGED
    np.testing.assert_allclose(state.x, top, atol=1e-9)
    assert state.facts[EVALUATIONS] <= 3


@pytest.mark.parametrize("condition", [1e2, 1e5])
def test_a_quadratic_whose_curvature_is_learnt(condition, rng):
    d = 5
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    A = Q @ np.diag(np.geomspace(1.0, condition, d)) @ Q.T
    top = rng.normal(size=d)
    state, status = descend(lambda x: (3.0 + 0.5 * (x - top) @ A @ (x - top), A @ (x - top)), np.zeros(d))
    assert status == CONVERGED
    # a gain of 1e-11 is promised in the learnt curvature, which is the true one by then to a few percent
    assert state.facts[VALUE] - 3.0 < 1e-10
    assert state.facts[DECREMENT] <= 2e-11


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    a, b = x
    value = (1 - a) ** 2 + 100 * (b - a * a) ** 2
    return value, np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])


@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 3.0), (2.0, -2.0)])
def test_rosenbrock(start):
    state, status = descend(rosenbrock, np.array(start))
    assert status == CONVERGED
    np.testing.assert_allclose(state.x, 1.0, atol=1e-4)
    assert state.facts[VALUE] < 1e-10


@pytest.mark.parametrize("start", [0.3, -1.7, 1e-4])
def test_an_even_function_with_its_minimum_at_zero(start):
    """What the likelihood is in the root of a variance that vanishes; and where zero is a maximum instead."""
    state, status = descend(lambda x: (np.log1p(x @ x), 2 * x / (1 + x @ x)), np.array([start]))
    assert status == CONVERGED and abs(state.x[0]) < 1e-5
    state, status = descend(lambda x: (x[0] ** 4 - x[0] ** 2, 4 * x**3 - 2 * x), np.array([start]))
    assert status == CONVERGED
    assert abs(state.x[0]) == pytest.approx(np.sqrt(0.5), abs=1e-5)


def test_values_that_are_not_finite_are_walked_around():
    """−log x + x beyond a wall at zero: long first steps fall behind it."""

    def of(x: np.ndarray) -> tuple[float, np.ndarray]:
        if x[0] <= 0.0:
            return np.inf, np.full(1, np.nan)
        return x[0] - np.log(x[0]), np.array([1 - 1 / x[0]])

    for H in (1.0, 100.0):
        state, status = descend(of, np.array([5.0]), np.array([[H]]))
        assert status == CONVERGED
        assert state.x[0] == pytest.approx(1.0, abs=1e-5)

    def holes(x: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.5 * float(x @ x), np.where(np.abs(x) > 2.5, np.nan, x)  # the gradient alone fails

    state, status = descend(holes, np.array([2.0, -1.0]), 4.0 * np.eye(2))
    assert status == CONVERGED
    np.testing.assert_allclose(state.x, 0.0, atol=1e-5)


@pytest.mark.parametrize("value,slope", [(np.inf, 0.0), (np.nan, 0.0), (1.0, np.nan)])
def test_a_start_that_is_not_finite_is_said(value, slope):
    state, status = descend(lambda x: (value, np.full(2, slope)), np.ones(2))
    assert status == STALLED
    np.testing.assert_array_equal(state.x, 1.0)
    assert state.facts[EVALUATIONS] == 1


@pytest.mark.parametrize("noise", [1e-9, 1e-6])
def test_noise_in_the_value_does_not_stop_it(noise):
    """The gradient stays exact: as close as without noise, if the noise was announced."""
    chance = np.random.default_rng(5)

    def of(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = rosenbrock(x)
        return value + noise * chance.uniform(-1, 1), slope

    state, status = descend(of, np.array([-1.2, 1.0]), noise=2 * noise)
    assert status == CONVERGED
    np.testing.assert_allclose(state.x, 1.0, atol=1e-4)


def test_a_slope_that_lies_ends_the_search():
    state, status = descend(lambda x: (float(np.abs(x).sum()), -np.sign(x)), np.ones(2))
    assert status == STALLED
    np.testing.assert_array_equal(state.x, 1.0)


def test_a_function_without_a_bottom_ends_at_the_limit():
    """−log(1 + x) falls for ever, slower and slower: what an infinite estimate looks like."""
    seen = []

    def of(x: np.ndarray) -> tuple[float, np.ndarray]:
        seen.append(x.copy())
        return -float(np.log1p(np.maximum(x, -0.5)).sum() ** 0.5), -0.5 / (1 + x) / np.log1p(x).sum() ** 0.5

    state, status = descend(of, np.ones(2))
    assert status in (SPENT, CONVERGED, STALLED) and state.facts[EVALUATIONS] <= LIMIT
    before = np.maximum(1.0, np.abs(seen[:-1]).max(axis=1))
    assert (np.abs(np.diff(seen, axis=0)).max(axis=1) <= LONGEST * before * (1 + 1e-12)).all()
    state, status = descend(lambda x: (-float(x.sum()), -np.ones(2)), np.zeros(2))
    assert status in (SPENT, STALLED)


def test_the_descent_never_ends_above_its_start(rng):
    for _ in range(20):
        A = rng.normal(size=(3, 3))

        def of(x, A=A):
            return float(np.sin(A @ x).sum() + 0.05 * x @ x), A.T @ np.cos(A @ x) + 0.1 * x

        start = rng.normal(size=3)
        state, status = descend(of, start)
        assert status == CONVERGED
        assert state.facts[VALUE] <= of(start)[0]
        assert np.abs(of(state.x)[1]).max() < 1e-4


def test_a_curvature_without_meaning_is_thrown_away():
    """An inverse Hessian that points uphill, or that rounding has spoilt."""
    for H in (-np.eye(2), np.diag([-3.0, 1e15]), 1e16 * np.eye(2)):
        state, status = descend(rosenbrock, np.array([-1.2, 1.0]), H)
        assert status == CONVERGED
        np.testing.assert_allclose(state.x, 1.0, atol=1e-4)
    state, status = descend(lambda x: (10 * float(x @ x), 20 * x), np.array([0.1]), np.array([[1e16]]))
    assert status == CONVERGED and abs(state.x[0]) < 1e-5
