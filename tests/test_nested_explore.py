"""The mode of the hyperparameters, its curvature and skewness, the grid and the marginals, on densities that are known."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import integrate, special

from bayou.engines.nested import survey as surveying
from bayou.engines.nested.explore import explore
from bayou.engines.nested.hyper import Interpolant, hyper_marginals
from bayou.engines.nested.proposal import Lattice, propose, sequence, spread, spread_density
from bayou.engines.nested.survey import Nodes, log_slope, relaxed, stretched
from dense_nested import Known

COVARIANCE = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, -0.05], [0.0, -0.05, 0.5]])
CENTRE = np.array([0.4, -1.0, 2.0])


def normal(d):
    precision = np.linalg.inv(COVARIANCE[:d, :d])
    return lambda t: -0.5 * (t - CENTRE[:d]) @ precision @ (t - CENTRE[:d])


def skewed(t):
    """The logs of two independent gamma variables, shapes 2.5 and 6, then mixed: long tails to the left."""
    u = t[0] + 0.4 * t[1], t[1] - 0.2 * t[0]
    return 2.5 * u[0] - np.exp(u[0]) + 6.0 * u[1] - np.exp(u[1])


def log_gamma(t):
    return 1.5 * t[0] - np.exp(t[0])


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_normal_density(d):
    mode = explore(Known(normal(d), np.zeros(d)))
    assert mode.converged
    assert np.allclose(mode.theta, CENTRE[:d], atol=1e-5)
    assert np.allclose(mode.covariance, COVARIANCE[:d, :d], rtol=1e-4)
    assert np.allclose([mode.left, mode.right], 1.0, atol=1e-3)
    z = np.random.default_rng(0).standard_normal((5, d))
    assert np.allclose(mode.coordinates(mode.at(z)), z)
    heights = [normal(d)(t) for t in mode.at(z)]
    assert np.allclose(heights, -0.5 * np.square(z).sum(axis=1), rtol=5e-3)


def test_skewness_is_seen():
    """The fall at the probe on either side is one."""
    mode = explore(Known(log_gamma, np.zeros(1)))
    assert mode.theta[0] == pytest.approx(np.log(1.5), abs=1e-6)
    assert mode.left[0] > 1.1 > 0.95 > mode.right[0]
    for z in (-np.sqrt(2.0), np.sqrt(2.0)):
        assert mode.height - log_gamma(mode.at(np.array([z]))) == pytest.approx(1.0, abs=0.25)


def test_the_map_and_its_slope():
    mode = explore(Known(skewed, np.zeros(2)))
    z = np.array([[0.5, -1.2], [-0.3, 0.8]])
    for point in z:
        h = 1e-6
        steps = [(mode.at(point + h * e) - mode.at(point - h * e)) / (2 * h) for e in np.eye(2)]
        slope = np.linalg.slogdet(np.array(steps))[1]
        assert mode.log_jacobian(point) == pytest.approx(slope, abs=1e-6)
        u = relaxed(point)
        stretch = (stretched(u + h) - stretched(u - h)) / (2 * h)
        assert log_slope(mode, point) == pytest.approx(slope + np.log(stretch).sum(), abs=1e-6)
    assert np.allclose(stretched(relaxed(z)), z)


def test_a_density_that_is_not_finite_at_the_start():
    with pytest.raises(ArithmeticError):
        explore(Known(lambda t: -np.inf, np.zeros(1)))


# ---- grids ---------------------------------------------------------------------------------


def surveyed(log_density, d, monkeypatch, kind="grid"):
    """The mode and the nodes of a known density: coefficients have nothing to do with it."""
    field = Known(log_density, np.zeros(d))
    mode = explore(field)

    def look(own, rows, theta, z, strategy, least):
        height = float(log_density(theta))
        if height < least:
            return height
        empty = np.zeros(0)
        return surveying.Node(
            z, theta, height, empty, empty, empty, empty, np.zeros((0, 0)), empty, True, None
        )

    monkeypatch.setattr(surveying, "look", look)
    nodes = surveying.survey(field, None, mode, kind, "gaussian", 1)
    field.rows = tuple(SimpleNamespace(name=f"t{k}", scale="identity", variable="t", index=(k,)) for k in range(d))
    field.natural = lambda theta: np.asarray(theta)
    return field, mode, nodes


def log_integral(d):
    return 0.5 * d * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(COVARIANCE[:d, :d])[1]


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("kind", ["grid", "ccd", "empirical_bayes"])
def test_nodes_integrate_a_normal_density(d, kind, monkeypatch):
    _, _, nodes = surveyed(normal(d), d, monkeypatch, kind)
    # a grid that ends where the density has fallen by seven loses 2e-4 of it in each direction
    assert nodes.log_marginal == pytest.approx(log_integral(d), abs=2e-3 * d)
    if kind != "empirical_bayes":
        share = np.exp(nodes.log_shares)
        mean = share @ nodes.thetas
        assert np.allclose(mean, CENTRE[:d], atol=2e-3)
        spread_ = (nodes.thetas - mean).T @ ((nodes.thetas - mean) * share[:, None])
        assert np.allclose(spread_, COVARIANCE[:d, :d], atol=0.01 * d)


def test_a_grid_integrates_long_tails(monkeypatch):
    _, _, nodes = surveyed(skewed, 2, monkeypatch)
    exact = special.gammaln(2.5) + special.gammaln(6.0) - np.log(1.08)
    assert nodes.log_marginal == pytest.approx(exact, abs=0.01)


def test_the_interpolant_is_exact_at_nodes_and_close_between(monkeypatch):
    _, mode, nodes = surveyed(skewed, 2, monkeypatch)
    between = Interpolant(mode, nodes)
    heights = nodes.stacked("height") - mode.height
    assert np.allclose(between(nodes.thetas), heights, atol=1e-6)
    z = np.random.default_rng(1).uniform(-2.0, 2.0, (200, 2))
    thetas = mode.at(z)
    truth = np.array([skewed(t) for t in thetas]) - mode.height
    error = np.abs(between(thetas) - truth)
    assert error.max() < 0.1
    assert np.sqrt(np.average(error**2, weights=np.exp(truth))) < 0.03
    assert between(mode.at(np.array([[40.0, 40.0]])))[0] == -np.inf


def test_marginals_from_a_grid(monkeypatch):
    """Against the integral of the density itself over the other coordinate."""
    field, mode, nodes = surveyed(skewed, 2, monkeypatch)
    first, second = hyper_marginals(field, mode, nodes)
    t = np.linspace(-9.0, 6.0, 601)
    table = np.exp(np.array([[skewed(np.array([a, b])) for b in t] for a in t]) - mode.height)
    for one, mass in ((first, table.sum(axis=1)), (second, table.sum(axis=0))):
        mass = mass / mass.sum()
        mean = mass @ t
        sd = np.sqrt(mass @ (t - mean) ** 2)
        assert one.mean == pytest.approx(mean, abs=0.02 * sd)
        assert one.sd == pytest.approx(sd, rel=0.02)
        quantiles = np.interp([0.025, 0.5, 0.975], np.cumsum(mass) - 0.5 * mass, t)
        assert np.allclose(one.quantile([0.025, 0.5, 0.975]), quantiles, atol=0.05 * sd)


def test_the_marginal_of_one(monkeypatch):
    field, mode, nodes = surveyed(log_gamma, 1, monkeypatch)
    (one,) = hyper_marginals(field, mode, nodes)
    sd = np.sqrt(special.polygamma(1, 1.5))
    assert one.mean == pytest.approx(special.digamma(1.5), abs=0.01 * sd)
    assert one.sd == pytest.approx(sd, rel=0.01)


@pytest.mark.parametrize("kind", ["grid", "ccd"])
def test_marginals_of_three_normal_coordinates(kind, monkeypatch):
    field, mode, nodes = surveyed(normal(3), 3, monkeypatch, kind)
    for k, one in enumerate(hyper_marginals(field, mode, nodes)):
        sd = np.sqrt(COVARIANCE[k, k])
        assert one.mean == pytest.approx(CENTRE[k], abs=0.01 * sd)
        assert one.sd == pytest.approx(sd, rel=0.015)


# ---- proposals -----------------------------------------------------------------------------


def test_the_sequence_leaves_no_gaps(rng):
    points = sequence(2, 400, rng)
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=10, range=[[0, 1], [0, 1]])
    assert counts.min() >= 1 and counts.max() <= 8


@pytest.mark.parametrize("d", [2, 3, 5, 8])
def test_the_sequence_is_even_in_many_dimensions(d):
    """Means of smooth functions of all coordinates come out within the error of independent points, for any seed."""
    rng = np.random.default_rng(7)
    for seed in range(40):
        tilt = rng.uniform(-1.0, 1.0, d)
        points = sequence(d, 500, np.random.default_rng(seed))
        values = np.exp(points @ tilt)
        exact = np.prod(np.expm1(tilt) / tilt)
        assert abs(values.mean() - exact) < 4.0 * values.std() / np.sqrt(500)
        for i in range(d):
            for j in range(i):  # two coordinates once added up to the same number in every point
                waves = np.cos(2.0 * np.pi * (points[:, i] + points[:, j]))
                assert abs(waves.mean()) < 5.0 / np.sqrt(2.0 * 500)


def test_the_overdispersed_density_integrates_to_one():
    mode = explore(Known(skewed, np.zeros(2)))
    z = np.linspace(-60, 60, 1201)
    grid = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    # the density is of theta: its slope brings it to z; at zero both sides meet
    total = np.exp(spread_density(mode, grid) + mode.log_jacobian(grid)).sum() * (z[1] - z[0]) ** 2
    assert total == pytest.approx(1.0, abs=0.01)


def test_the_density_of_the_lattice_integrates_to_one(monkeypatch):
    _, mode, nodes = surveyed(log_gamma, 1, monkeypatch)
    lattice = Lattice(mode, nodes)
    theta = np.linspace(-40.0, 10.0, 200_001)
    density = np.exp(lattice.log_density(mode.coordinates(theta[:, None])))
    assert integrate.trapezoid(density, theta) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("density", "d"), [(log_gamma, 1), (skewed, 2)])
def test_weights_of_the_proposal_integrate_the_density(density, d, monkeypatch):
    _, mode, nodes = surveyed(density, d, monkeypatch)
    z, logs = propose(mode, nodes, 2000, np.random.default_rng(3))
    weights = np.exp([density(t) for t in mode.at(z)] - logs)
    exact = special.gamma(1.5) if d == 1 else special.gamma(2.5) * special.gamma(6.0) / 1.08
    assert weights.mean() == pytest.approx(exact, rel=4 * weights.std() / weights.mean() / np.sqrt(2000))
    assert weights.sum() ** 2 / np.square(weights).sum() > 0.8 * 2000


def test_weights_without_a_grid(monkeypatch):
    _, mode, nodes = surveyed(normal(3), 3, monkeypatch, "ccd")
    z, logs = propose(mode, nodes, 4000, np.random.default_rng(4))
    weights = np.exp([normal(3)(t) for t in mode.at(z)] - logs)
    assert np.log(weights.mean()) == pytest.approx(log_integral(3), abs=0.03)
    assert spread(mode, 50, np.random.default_rng(1)).shape == (50, 3)


def test_an_sd_that_may_be_zero_has_a_tail_of_its_own(monkeypatch):
    """log sd ~ e^u exp(−e^u) beside two normal hyperparameters: along one axis of three a t thins out too soon."""

    def density(t):
        return t[0] - np.exp(t[0]) - 0.5 * (t[1] ** 2 + t[2] ** 2)

    _, mode, nodes = surveyed(density, 3, monkeypatch, "ccd")
    largest = []
    for sds in ({}, {0: [2]}):
        z, logs = propose(mode, nodes, 4000, np.random.default_rng(5), sds)
        weights = np.exp([density(t) for t in mode.at(z)] - logs)
        error = weights.std() / np.sqrt(4000)
        assert weights.mean() == pytest.approx(2 * np.pi, abs=4 * error)
        largest.append(weights.max() / weights.mean())
    assert largest[1] < 4.0 < largest[0]


def test_no_hyperparameters():
    mode = explore(Known(lambda t: -1.5, np.zeros(0)))
    assert mode.height == -1.5
    nodes = Nodes("empirical_bayes", (), np.zeros(0), (np.zeros((0, 0)), np.zeros(0)))
    z, logs = propose(mode, nodes, 7, np.random.default_rng(0))
    assert z.shape == (7, 0) and not logs.any()
