"""Several modes and bent ridges of the hyperparameters' density: found, looked at by the check, integrated."""

import numpy as np
import pytest
from scipy.special import logsumexp

import bayou
from bayou.conditional.field import Field
from bayou.engines.nested import explore as exploring
from bayou.engines.nested.climb import Peak
from bayou.engines.nested.explore import Mode, explore
from bayou.engines.nested.height import height
from bayou.engines.nested.hyper import falling, hyper_marginals
from bayou.engines.nested.importance import Particles
from bayou.engines.nested.pareto import smoothed
from bayou.engines.nested.proposal import propose, shared
from bayou.engines.nested.run import find
from bayou.engines.nested.weighing import _weights
from dense_nested import Known
from test_nested_explore import surveyed


def two(gap, far=4.0):
    """Two normal humps, the first mode of height zero at 0.3, the second ``gap`` above it at 0.3 − far, narrower."""
    return lambda t: float(
        np.logaddexp(-0.5 * ((t[0] - 0.3) / 0.6) ** 2, gap - 0.5 * ((t[0] - 0.3 + far) / 0.4) ** 2)
        - 0.5 * np.square(t[1:]).sum()
    )


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("far", [4.0, 3.0, -2.0])
def test_the_higher_mode_is_found_from_the_lower(d, far):
    mode = explore(Known(two(5.0, far), np.zeros(d)))
    assert mode.theta[0] == pytest.approx(0.3 - far, abs=0.02)
    assert mode.height == pytest.approx(5.0, abs=0.02)
    (other,) = mode.others
    assert other.theta[0] == pytest.approx(0.3, abs=0.02)
    assert other.height == pytest.approx(0.0, abs=0.02)
    assert other.covariance[0, 0] == pytest.approx(0.36, rel=0.1)


def test_modes_that_do_not_count_are_left_out():
    assert not explore(Known(two(-9.0), np.zeros(1))).others


def test_one_hump_has_no_others():
    def hump(t):
        return 2.5 * t[0] - np.exp(t[0]) + 1.5 * t[1] - np.exp(t[1])

    mode = explore(Known(hump, np.zeros(2)))
    assert mode.others == ()
    assert mode.evaluations < 60


def test_rounding_does_not_decide_how_often_a_lower_mode_is_drawn_from():
    """Half of 1,120 draws are 560, whatever the last digits of the share that is cut to a half."""
    for share in np.random.default_rng(7).uniform(0.5, 1.0, 1000):
        assert shared(np.array([share]), 1120) == [560]
    assert shared(np.array([0.05, 0.3]), 100).tolist() == [5, 30]
    assert shared(np.array([0.9, 0.3]), 100).sum() <= 50
    assert len(shared(np.zeros(0), 100)) == 0


@pytest.mark.parametrize("kind", ["grid", "ccd"])
def test_the_check_looks_at_both_modes(kind, monkeypatch):
    density = two(1.0)
    _, mode, nodes = surveyed(density, 2, monkeypatch, kind)
    exact = np.log(2 * np.pi * (0.6 + np.e * 0.4))
    if kind == "grid":
        assert nodes.log_marginal == pytest.approx(exact, abs=0.05)
    z, logs = propose(mode, nodes, 4000, np.random.default_rng(0))
    weights = np.exp([density(t) for t in mode.at(z)] - logs)
    error = weights.std() / weights.mean() / np.sqrt(4000)
    assert np.log(weights.mean()) == pytest.approx(exact, abs=4 * error)
    assert error < 0.02
    mean = weights @ mode.at(z)[:, 0] / weights.sum()
    share = 0.6 / (0.6 + np.e * 0.4)
    assert mean == pytest.approx(0.3 - 4.0 * (1 - share), abs=0.15)


def test_a_prior_that_wants_no_sd_against_data_that_have_one():
    """Gamma(1, 5e-5) of a precision has its mode at an sd of .007; the height over a grid says which mode is higher."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(25), 4)
    y = rng.poisson(np.exp(2.0 + rng.normal(0, 0.6, 25)[g] + rng.normal(0, 0.5, 100)))
    data = {"y": y, "g": g.astype(str), "o": np.arange(100).astype(str)}
    priors = {"sd": bayou.priors.Gamma(1.0, 5e-5)}
    model = bayou.Model("y ~ 1 + (1 | g) + (1 | o)", data, family="poisson", priors=priors)
    field = Field(model)
    a, b = np.meshgrid(np.linspace(-6.0, 1.0, 29), np.linspace(-6.0, 1.0, 29), indexing="ij")
    grid = np.stack([a.ravel(), b.ravel()], axis=1)
    heights = np.array([height(field, t) for t in grid])
    best = grid[heights.argmax()]
    assert best.min() > -2.0
    for start in (None, np.array([-0.7, -4.9])):
        mode = explore(field, start)
        assert mode.height >= heights.max()
        assert np.abs(mode.theta - best).max() < 0.3
    found = find(model, "variational", "auto", False, 1, rng)
    log_marginal = logsumexp(heights) + 2 * np.log(0.25)
    assert found.nodes.log_marginal == pytest.approx(log_marginal, abs=0.02)


@pytest.mark.parametrize("seed", [0, 9, 14])
def test_a_second_mode_is_told(seed):
    """One hump of the prior near zero, one of the data: both are in the nodes, the marginal and the check."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(8), 3)
    data = {"y": rng.poisson(np.exp(1.0 + rng.normal(0.0, 0.7, 8)[g])), "g": g.astype(str)}
    priors = {"sd": bayou.priors.Gamma(1.0, 1e-4)}
    model = bayou.Model("y ~ 1 + (1 | g)", data, family="poisson", priors=priors)
    found = find(model, "variational", "auto", True, 1, rng)
    assert len(found.mode.others) == 1
    assert any("2 modes" in sentence for sentence in found.messages)
    t = np.linspace(-9.0, 2.0, 441)[:, None]
    heights = np.array([height(found.field, one) for one in t])
    assert found.nodes.log_marginal == pytest.approx(logsumexp(heights) + np.log(0.025), abs=0.03)
    mass = np.exp(heights - logsumexp(heights))
    mean = mass @ np.exp(t[:, 0])
    sd = np.sqrt(mass @ (np.exp(t[:, 0]) - mean) ** 2)
    assert found.hyper[0].mean == pytest.approx(mean, abs=0.05 * sd)
    assert found.hyper[0].sd == pytest.approx(sd, rel=0.05)
    assert found.corrected.shift < 0.2


# ---- ridges --------------------------------------------------------------------------------


def ridge(a, b):
    """Two variances share what there is; one of the sds may be zero (exponential priors on both)."""
    v = np.exp(2 * a) + 0.5 * np.exp(2 * b)
    return a + b - np.exp(a) - np.exp(b) - 40.0 * (np.log(v) + 1.0 / v - 1.0) - 6.0 * np.square(a + 0.2)


@pytest.mark.parametrize("straight", [False, True])
def test_a_bent_ridge(monkeypatch, straight):
    """An sd whose density reaches zero: the other one takes over no more than there is."""
    if straight:
        monkeypatch.setattr(exploring, "FEW", 0)
    field, mode, nodes = surveyed(lambda t: ridge(*t), 2, monkeypatch)
    t = np.linspace(-12.0, 2.0, 1401)
    table = np.exp(ridge(*np.meshgrid(t, t, indexing="ij")) - mode.height)
    total = np.log(table.sum()) + 2 * np.log(0.01) + mode.height
    off = [abs(nodes.log_marginal - total)]
    for one, mass in zip(hyper_marginals(field, mode, nodes), (table.sum(1), table.sum(0)), strict=True):
        mass = mass / mass.sum()
        mean = mass @ t
        sd = np.sqrt(mass @ (t - mean) ** 2)
        off += [abs(one.mean - mean) / sd, abs(one.sd / sd - 1.0)]
    assert max(off) > 0.06 if straight else max(off) < 0.03


def bent():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 3))
    curves = np.triu(rng.normal(size=(2, 3, 3)), 1)
    return Mode(rng.normal(size=3), 0.0, A @ A.T, A, 1.0 + rng.random(3), 0.5 + rng.random(3), 1, True, (), curves)


def test_the_bent_map_and_back():
    mode = bent()
    z = 3.0 * np.random.default_rng(1).standard_normal((50, 3))
    assert np.allclose(mode.coordinates(mode.at(z)), z, atol=1e-9)
    h = 1e-6
    for point in z[:10]:
        steps = [(mode.at(point + h * e) - mode.at(point - h * e)) / (2 * h) for e in np.eye(3)]
        assert mode.log_jacobian(point) == pytest.approx(np.linalg.slogdet(np.array(steps))[1], abs=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_spreads_are_met_where_they_were_measured(side):
    eye = np.eye(1)
    mode = Mode(np.zeros(1), 0.0, eye, eye, np.array([1.6]), np.array([0.8]), 1, True)
    z = np.sqrt(2.0) * (-1.0 if side == "left" else 1.0)
    assert abs(mode.at(np.array([z]))[0]) == pytest.approx(np.sqrt(2.0) * getattr(mode, side)[0], rel=0.02)


def test_a_tail_is_not_followed_upwards():
    """What an interpolation says beyond its last node: it rises, and on a log scale has no moments."""
    t = np.linspace(-3.0, 6.0, 37)
    density = -0.5 * t**2
    wrong = np.where(t > 3.5, -6.125 - 1.5 * (t - 3.5) + 0.6 * (t - 3.5) ** 2, density)
    points, logs = falling(t, wrong, 1.0)
    slope = np.diff(logs) / np.diff(points)
    assert (slope[points[:-1] > 0.0] < 0.0).all() and wrong[-1] > -6.2
    one = bayou.posterior.marginals.Marginal(points, logs, "log")
    exact = np.exp(0.5), np.exp(0.5) * np.sqrt(np.e - 1.0)
    assert one.mean == pytest.approx(exact[0], rel=0.05)
    assert exact[1] < one.sd < 2.0 * exact[1]
    kept, same = falling(t[:25], density[:25], 1.0)
    assert np.allclose(np.interp(t[:25], kept, same), density[:25])


def test_one_large_weight_among_few_hyperparameters():
    """Of thousands of equal pairs one is large: its rank among the pairs is known, the tail is light."""
    rng = np.random.default_rng(0)
    failed = {"pairs": 0, "alone": 0}
    for _ in range(30):
        ratios = 0.8 * rng.standard_normal((128, 16))
        ratios[5, 3] = 4.0
        drawn = Particles(np.zeros((128, 1)), 0.05 * rng.standard_normal(128), ratios, np.zeros(0), np.zeros(0))
        weights, k_hat = _weights(drawn)
        assert weights.sum() == pytest.approx(1.0)
        failed["pairs"] += k_hat > 0.7
        failed["alone"] += smoothed(drawn.log_weights)[1] > 0.7
    assert failed["pairs"] == 0 < failed["alone"]


def test_a_known_mode_is_recognised():
    one = Peak(np.array([1.0]), -2.0, np.array([[0.25]]))
    assert one.holds(np.array([1.3]), -2.2)
    assert not one.holds(np.array([1.6]), -2.2)
    assert not one.holds(np.array([1.3]), -3.5)
