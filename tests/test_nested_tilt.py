"""Tilted normal scores: the moments asked for, and the exponential family that they belong to."""

import numpy as np
import pytest

from bayou.engines.nested.tilt import normal_moments, tilted

Z = np.linspace(-6.0, 6.0, 4001)
PHI = np.exp(-0.5 * Z**2) / np.exp(-0.5 * Z**2).sum()


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (0.3, 0.9), (-0.8, 1.1), (0.1, 0.6)])
def test_normal_targets_come_back(mean, sd):
    """Log ratios of normal densities are parabolas: the tilt finds them."""
    ratio = np.exp(-0.5 * ((Z - mean) / sd) ** 2 + 0.5 * Z**2) / sd
    wanted = (PHI * ratio) @ normal_moments(Z)
    logs, whole = tilted(Z, wanted)
    assert whole
    inner = np.abs(Z) < 3.0
    assert np.allclose(np.exp(logs)[inner], ratio[inner], rtol=0.02, atol=0.01)


def test_the_moments_are_those_asked_for():
    wanted = np.array([0.2, -0.1, 0.15])
    logs, whole = tilted(Z, wanted)
    assert whole
    weight = PHI * np.exp(logs)
    assert weight.sum() == pytest.approx(1.0, abs=1e-3)
    assert np.allclose(weight @ normal_moments(Z) / weight.sum(), wanted, atol=1e-3)


def test_nothing_to_change():
    logs, whole = tilted(Z, np.zeros(3))
    assert whole and np.abs(logs).max() < 1e-8


def test_moments_out_of_reach_give_up_the_third_first():
    wanted = np.array([0.5, 0.3, -30.0])
    logs, whole = tilted(Z, wanted)
    assert not whole
    weight = PHI * np.exp(logs)
    assert (weight @ normal_moments(Z) / weight.sum())[0] == pytest.approx(0.5, abs=2e-3)
