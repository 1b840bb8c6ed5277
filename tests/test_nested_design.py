"""Designs over the hyperparameters: resolution, exact moments, rules of integration."""

import itertools

import numpy as np
import pytest

from bayou.engines.nested.design import RADIUS, composite, composite_weights, corners, neighbours, product, snake


@pytest.mark.parametrize("d", range(1, 11))
def test_corners_have_resolution_five(d):
    points = corners(d)
    assert set(np.unique(points)) == {-1.0, 1.0}
    assert len(np.unique(points, axis=0)) == len(points) <= 2**d
    for size in range(1, min(d, 4) + 1):
        for columns in itertools.combinations(range(d), size):
            assert points[:, columns].prod(axis=1).sum() == 0.0


def test_corners_are_few():
    assert [len(corners(d)) for d in (1, 2, 3, 4, 5, 6, 7, 8)] == [2, 4, 8, 16, 16, 32, 64, 64]


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7])
def test_the_composite_design_has_the_moments_of_a_normal_density(d):
    points = composite(d)
    mass = np.exp(composite_weights(d, len(points)) - 0.5 * np.square(points).sum(axis=1) - 0.5 * d * np.log(2 * np.pi))
    assert mass.sum() == pytest.approx(1.0, rel=1e-12)
    assert np.allclose(mass @ points, 0.0, atol=1e-12)
    assert np.allclose((points.T * mass) @ points, np.eye(d), atol=1e-12)
    radius = np.sqrt(np.square(points[1:]).sum(axis=1))
    assert np.allclose(radius, RADIUS * np.sqrt(d))


def test_no_hyperparameters():
    assert composite(0).shape == (1, 0)
    assert composite_weights(0, 1).tolist() == [0.0]


def test_neighbours():
    assert sorted(neighbours((0, 2))) == [(-1, 2), (0, 1), (0, 3), (1, 2)]


@pytest.mark.parametrize("d", [1, 2])
def test_the_product_rule_integrates_after_a_stretch(d):
    points, log_weights = product(31, 5.0, d, lambda u: np.sinh(0.4 * u) / 0.4)
    density = np.exp(-0.5 * np.square(points).sum(axis=1)) / (2 * np.pi) ** (d / 2)
    assert (density * np.exp(log_weights)).sum() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("d", [0, 1, 2, 3])
def test_the_snake_visits_all_and_makes_small_steps(d, rng):
    points = rng.standard_normal((400, d))
    order = snake(points, 0.5)
    assert sorted(order) == list(range(400))
    if d:
        steps = np.sqrt(np.square(np.diff(points[order], axis=0)).sum(axis=1)).mean()
        assert steps < 0.6 * np.sqrt(np.square(np.diff(points, axis=0)).sum(axis=1)).mean()
