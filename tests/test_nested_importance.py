"""Importance weights: unbiased for p(y | theta), by quadrature; averages over particles on functions that are known."""

from types import SimpleNamespace

import numpy as np
import pytest

import bayou
from bayou.conditional.field import Field
from bayou.engines.nested import importance
from bayou.engines.nested.explore import Mode, explore
from bayou.engines.nested.grouped import GroupLikelihood, suitable
from bayou.engines.nested.importance import Forces, Particles, Shifted, particles, sizes
from bayou.engines.nested.latent import Parts, matched, parts_of, unit_of
from bayou.engines.nested.likelihood import Likelihood
from bayou.engines.nested.survey import survey
from bayou.engines.nested.weighing import Fitted, Weighted, weigh
from dense_nested import exact_intercept


def counts(seed=5, J=6, n=4, family="poisson"):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), n)
    eta = 0.2 + rng.normal(0.0, 0.8, J)[g]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int)
    return bayou.Model("y ~ 1 + (1 | g)", {"y": y, "g": g.astype(str)}, family=family)


def begun(model, strategy="variational"):
    field, rows = Field(model), Likelihood(model)
    mode = explore(field)
    nodes = survey(field, rows, mode, "auto", strategy, 1)
    base, parts = parts_of(field, nodes)
    field.place(mode.theta)
    return field, rows, mode, nodes, base, parts


@pytest.mark.parametrize("family", ["poisson", "bernoulli"])
@pytest.mark.parametrize("moved", [False, True])
def test_weights_are_unbiased(family, moved):
    """With the mean moved and without, the average weight is p(y | theta) over Laplace's value."""
    model = counts(family=family)
    field, _, mode, nodes, _, _ = begun(model)
    theta = mode.theta + 0.2
    exact = exact_intercept(model, np.array([theta[0] - 0.01, theta[0]])).log_given_theta[1]
    field.place(theta)
    force = Forces(mode, nodes).at(np.zeros((1, 1)))[0] if moved else np.zeros(len(field.x))
    Z = np.random.default_rng(0).standard_normal((20_000, field.dimension))
    X, logs = Shifted(field, force).draw(Z)
    w = np.exp(logs)
    error = (w[: len(Z)] + w[len(Z) :]).std() / 2 / np.sqrt(len(Z))
    assert w.mean() == pytest.approx(np.exp(exact - field.value()), abs=4 * error)
    assert error < 0.02
    direct = [field.log_joint(x) for x in X[:5]]
    gaussian = [field.log_gaussian(x - Shifted(field, force).move) for x in X[:5]]
    assert np.allclose(logs[:5], np.array(direct) - gaussian - field.value(), atol=1e-8)


def test_moving_the_mean_takes_most_of_the_variance_away():
    field, _, mode, nodes, _, _ = begun(counts(J=60, n=1))
    force = Forces(mode, nodes).at(np.zeros((1, 1)))[0]
    Z = np.random.default_rng(0).standard_normal((4000, field.dimension))
    plain, moved = (Shifted(field, s).draw(Z)[1].std() for s in (np.zeros_like(force), force))
    assert moved < 0.75 * plain


def test_groups_by_quadrature_are_unbiased_too():
    model = counts(family="bernoulli")
    field, *_ = begun(model)
    theta = np.array([-0.2])
    exact = exact_intercept(model, np.array([-0.21, -0.2])).log_given_theta[1]
    field.place(theta)
    groups = GroupLikelihood(model)
    groups.measure(field, theta)
    assert 0.0 < abs(groups.left_out) < 1e-3
    Z = np.random.default_rng(1).standard_normal((400, 1))
    beta, logs = groups.log_weights(field, theta, field.x[field.columns["beta"]], Z)
    assert np.allclose(beta[:400] + beta[400:], 2 * field.x[field.columns["beta"]])
    w = np.exp(logs)
    error = (w[:400] + w[400:]).std() / 2 / 20
    assert np.log(w.mean()) == pytest.approx(exact - field.value(), abs=max(4 * error, 1e-4))


def test_a_correlated_slope_by_groups():
    """The factor of the covariance is that of the field: both likelihoods agree where Laplace is nearly exact."""
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(5), 40), rng.normal(size=200)
    data = {"y": rng.poisson(np.exp(3.0 + 0.3 * x)), "x": x, "g": g.astype(str)}
    model = bayou.Model("y ~ x + (1 + x | g)", data, family="poisson")
    field = Field(model)
    theta = np.array([-0.7, -1.2, 0.4])
    field.place(theta)
    _, logs = GroupLikelihood(model).log_weights(field, theta, field.x[field.columns["beta"]], np.zeros((1, 2)))
    # at the mode of beta its Gaussian has the height that Laplace gives it
    assert np.abs(logs).max() < 0.02


@pytest.mark.parametrize(
    ("formula", "family", "expected"),
    [
        ("y ~ 1 + (1 | g)", "poisson", True),
        ("y ~ 1 + (1 | g) + (1 | h)", "poisson", False),
        ("y ~ 1 + (1 | g)", "gaussian", False),
    ],
)
def test_what_groups_take(formula, family, expected):
    data = {"y": [0, 1, 2, 1, 0, 3], "g": list("aabbcc"), "h": list("abcabc")}
    assert suitable(bayou.Model(formula, data, family=family)) is expected


def test_by_groups_and_as_a_whole_agree(monkeypatch):
    """The two kinds of particles give the same corrected moments of the fixed effect within their errors."""
    model = counts(J=12, family="bernoulli")
    found = []
    for easy in (importance.EASY, 10):
        monkeypatch.setattr(importance, "EASY", easy)
        field, rows, mode, nodes, base, _ = begun(model)
        unit = unit_of(field, base, mode.theta)
        drawn = particles(field, mode, nodes, unit, rows, (256, 16), np.random.default_rng(3), 1)
        weights = weigh(drawn, mode, nodes)
        tilted = Parts(weights.shares, base.means, base.sds).powers(unit)
        means, errors = weights.change(drawn.weighted, drawn.plain, base.powers(unit), tilted)
        found.append((means[:, -1], errors[:, -1], np.log(np.mean(np.exp(drawn.log_weights)))))
    (a, e, one), (b, f, two) = found
    assert np.allclose(a[:2], b[:2], atol=4 * np.hypot(e, f).max())
    assert one == pytest.approx(two, abs=0.05)


def test_particles_of_a_gaussian_response_have_equal_weights():
    rng = np.random.default_rng(4)
    data = {"y": rng.normal(size=30) + np.repeat(rng.normal(size=6), 5), "g": np.repeat(list("abcdef"), 5)}
    field, rows, mode, nodes, base, _ = begun(bayou.Model("y ~ 1 + (1 | g)", data))
    count = sizes(field, mode, nodes, rows, rng)
    drawn = particles(field, mode, nodes, unit_of(field, base, mode.theta), rows, count, rng, 1)
    assert not drawn.log_ratios.any()
    weights = weigh(drawn, mode, nodes)
    assert weights.log_marginal(nodes)[0] == nodes.log_marginal
    assert np.allclose(drawn.plain, drawn.weighted)


# ---- averages ------------------------------------------------------------------------------


def normal_mode(d):
    eye = np.eye(d)
    return Mode(np.zeros(d), 0.0, eye, eye, np.ones(d), np.ones(d), 1, True)


def known_particles(M, d, seed, noise, shift=0.4):
    """Laplace's posterior N(0, I), drawn wider; the exact one has its first coordinate moved."""
    rng = np.random.default_rng(seed)
    z = 1.3 * rng.standard_normal((M, d))
    laplace = -0.5 * np.square(z).sum(axis=1) + 0.5 * np.square(z / 1.3).sum(axis=1) + d * np.log(1.3)
    ratio = shift * z[:, 0] - 0.5 * shift**2 + 0.7
    ratios = ratio[:, None] + noise * rng.standard_normal((M, 8)) - 0.5 * noise**2
    functionals = np.stack([z[:, 0], z[:, 0] ** 2], axis=1)
    return Particles(z, laplace, ratios, functionals, functionals)


def known_nodes(d, kind="grid"):
    """A grid under N(0, I)."""
    line = np.arange(-4.0, 4.5, 0.5)
    thetas = np.stack(np.meshgrid(*[line] * d, indexing="ij"), axis=-1).reshape(-1, d)
    logs = -0.5 * np.square(thetas).sum(axis=1)
    log_shares = logs - np.log(np.exp(logs).sum())
    return SimpleNamespace(kind=kind, log_marginal=-3.0, thetas=thetas, log_shares=log_shares, nodes=thetas)


def known_tilted(weights, nodes):
    return weights.shares @ np.stack([nodes.thetas[:, 0], nodes.thetas[:, 0] ** 2], axis=1)


@pytest.mark.parametrize(("M", "kind"), [(1000, Weighted), (40, Fitted)])
@pytest.mark.parametrize("d", [1, 2])
def test_averages_of_a_moved_normal(M, kind, d):
    mode, nodes = normal_mode(d), known_nodes(d)
    off, told = [], []
    for seed in range(40):
        drawn = known_particles(M, d, seed, 0.3)
        weights = weigh(drawn, mode, nodes)
        assert isinstance(weights, kind)
        means, errors = weights.change(drawn.weighted, drawn.plain, np.array([0.0, 1.0]), known_tilted(weights, nodes))
        off.append((means - [0.4, 1.16]) / errors)
        total, error = weights.log_marginal(nodes)
        told.append((total + 3.0 - 0.7) / error)
    off = np.array(off)
    # errors that are told are those that are made; the weighted ones leave out that the base is known
    assert np.abs(off.mean(axis=0)).max() < 0.6
    assert 0.3 < np.sqrt(np.square(off[:, 0]).mean()) < 1.6
    assert 0.3 < np.sqrt(np.square(told).mean()) < 1.8


def test_without_a_grid_the_weights_stand_alone():
    drawn = known_particles(4000, 2, 0, 0.1)
    weights = weigh(drawn, normal_mode(2), known_nodes(2, "ccd"))
    means, errors = weights.change(drawn.weighted, drawn.plain, np.array([5.0, 5.0]), np.array([5.0, 5.0]))
    assert np.allclose(means, [0.4, 1.16], atol=4 * errors.max())
    assert weights.log_marginal(SimpleNamespace())[0] == pytest.approx(0.7, abs=0.1)


def test_matched_mixtures_have_the_moments_asked_for():
    field, _, _, _, base, _ = begun(counts())
    sd = base.sd * 1.3
    third = 0.1 * sd**3
    parts = matched(base, base.mean + 0.2, sd, third)
    assert parts.weights.sum() == pytest.approx(1.0)
    assert np.allclose(parts.mean, base.mean + 0.2)
    assert np.allclose(parts.sd, sd)
    d = parts.means - parts.mean
    assert np.allclose(parts.weights @ (d**3 + 3 * d * parts.sds**2), third, rtol=1e-6)


def test_pooled_particles_are_all_there():
    one, two_ = known_particles(30, 2, 0, 0.1), known_particles(50, 2, 1, 0.1)
    both = one.joined(two_)
    assert np.array_equal(both.thetas, np.concatenate([one.thetas, two_.thetas]))
    assert np.array_equal(both.log_weights, np.concatenate([one.log_weights, two_.log_weights]))


def test_the_nodes_are_not_believed_where_the_particles_contradict_them():
    """A base that misses a part of Laplace's posterior goes out of the answer; a right one stays in it."""
    drawn, nodes = known_particles(1000, 1, 3, 0.1), known_nodes(1)
    weights = weigh(drawn, normal_mode(1), nodes)
    tilted = known_tilted(weights, nodes)
    right, error = weights.change(drawn.weighted, drawn.plain, np.array([0.0, 1.0]), tilted)
    wrong, wider = weights.change(drawn.weighted, drawn.plain, np.array([0.5, 2.0]), tilted + [0.5, 1.0])
    assert np.allclose(right, [0.4, 1.16], atol=4 * error.max())
    assert np.allclose(wrong, [0.4, 1.16], atol=4 * wider.max())
    assert (wider > 2 * error).all()


def test_the_fit_takes_the_noise_out():
    """What the weights say is a parabola: tilting the nodes by it leaves the estimates' own noise alone."""
    spread = []
    for seed in range(30):
        drawn, nodes = known_particles(200, 1, seed, 0.2), known_nodes(1)
        weights = weigh(drawn, normal_mode(1), nodes)
        fitted, _ = weights.change(drawn.weighted, drawn.plain, np.array([0.0, 1.0]), known_tilted(weights, nodes))
        spread.append([fitted[0] - 0.4, weights.exact @ drawn.plain[:, 0] - 0.4])
    # once in a while chance puts the particles so far from the nodes that these are not believed
    off = np.median(np.abs(spread), axis=0)
    assert off[0] < 0.25 * off[1]
    assert off[0] < 0.01
