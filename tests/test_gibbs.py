"""Gibbs: the marginal density, each sampler as a whole, and what the engine refuses.

Samplers are tested with independent replicates of the joint distribution: parameters from frozen proper priors, a
response given them, some scans given the response. A valid scan leaves the parameters distributed as the prior.
"""

import numpy as np
import pytest

import bayou
import oracle
from bayou.binding import log_density_beta
from bayou.effects.iid import coordinates_from_factor, factor_from_coordinates
from bayou.engines import Gibbs
from bayou.engines.gibbs import _own
from bayou.engines.lmm import collapsed, scan
from bayou.engines.lmm.state import new_state
from bayou.errors import Unsupported
from bayou.linalg.schur import new_factor
from bayou.model import Model
from bayou.priors import (
    Exponential,
    Gamma,
    HalfNormal,
    HalfT,
    HuangWand,
    InverseGamma,
    InverseWishart,
    Normal,
    StudentT,
    Uniform,
)
from bayou.sufficient import sufficient
from gaussian_models import PRIORS, STRUCTURES, build, point_of, prepared, put, table

PARAMETERIZATIONS = ["collapsed", "blocked", "marginal", "centered", "uncentered"]


def coordinates(model, point):
    """Theta of the collapsed sampler."""
    parts = [coordinates_from_factor(np.linalg.cholesky(Sigma)) for Sigma in point.Sigma]
    if not model.dispersion_known:
        parts.append(np.log(point.dispersion))
    return np.concatenate([*parts, np.zeros(0)])


def log_density_of_theta(model, point):
    """log p(y | theta) + log p(theta), with respect to the lower triangles of Sigma and sigma."""
    beta = log_density_beta(model.bound, point.beta)
    return oracle.log_marginal(model, point.Sigma, point.dispersion) + oracle.log_prior(model, point) - beta


def log_jacobian(model, t):
    """log |d (lower triangles of Sigma, sigma) / d t|; `test_iid` holds its parts to finite differences."""
    total, at = 0.0, 0
    for block in model.bound.blocks:
        p = len(block.columns)
        total += factor_from_coordinates(t, at, p, np.zeros((p, p)))
        at += p * (p + 1) // 2
    # sigma = exp(t)
    return total + t[at:].sum()


@pytest.mark.parametrize("structure", [s for s in STRUCTURES if s != "no groups"])
def test_log_marginal_against_dense_matrices(structure, rng):
    model = build(structure)
    _, target, state = prepared(model)
    gaps = []
    for _ in range(5):
        point = oracle.draw_from_prior(model, rng)
        t = coordinates(model, point)
        found = collapsed.log_marginal(target, state, t)
        expected = log_density_of_theta(model, point)
        gaps.append(found - expected - log_jacobian(model, t))
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-8)


@pytest.mark.parametrize("prior", [HuangWand(2, 1.5), InverseWishart(5, 2.0)], ids=str)
def test_log_marginal_with_a_prior_of_the_matrix(prior, rng):
    model = build("one factor", {"beta": Normal(0, 2), "Sigma": prior, "sigma": InverseGamma(3, 2)})
    _, target, state = prepared(model)
    gaps = []
    for _ in range(5):
        point = oracle.draw_from_prior(model, rng)
        t = coordinates(model, point)
        expected = log_density_of_theta(model, point)
        gaps.append(collapsed.log_marginal(target, state, t) - expected - log_jacobian(model, t))
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-8)


def test_log_marginal_outside():
    model = build("one factor")
    _, target, state = prepared(model)
    for t in ([-1.0, 1, 0, 0], [1.0, np.nan, 0, 0], [1.0, 1, 0, 400], [1.0, 1, 0, np.nan], [1e-200, 1, 0, 0]):
        assert collapsed.log_marginal(target, state, np.array(t, dtype=float)) == -np.inf


@pytest.mark.parametrize("structure", STRUCTURES)
def test_scratch_has_room_for_every_factor(structure):
    """Kernels do not check bounds: a factor with several blocks is wider than its widest block."""
    model = build(structure)
    _, target, state = prepared(model)
    B, p = target.blocks.A.shape
    state = new_state(target, new_factor(target.arrow), np.zeros((B, p, p)), np.ones(len(target.cells.rows)))
    widest = max([1, *target.sizes])
    assert state.Q.shape[1] >= widest
    assert state.work.shape[1] >= max(widest, target.border.precision.shape[0])
    assert state.vectors.shape[1] >= max(widest, target.border.precision.shape[0])


def functions(model, point):
    """Numbers whose distribution a valid scan does not change."""
    design = model.design
    out = [*point.beta, *(point.beta**2)]
    for values in point.b:
        out += [values[0, 0], values[0, -1] ** 2, values[-1, 0] * values[0, 0], float((values**2).mean())]
        out.append(point.beta[0] * values[0, 0])
    for Sigma in point.Sigma:
        sd = np.sqrt(np.diag(Sigma))
        out += [*np.log(sd), *(np.log(sd) ** 2)]
        if len(sd) > 1:
            out += [Sigma[1, 0] / sd[0] / sd[1], (Sigma[1, 0] / sd[0] / sd[1]) ** 2]
    if model.family.dispersion is not None and not model.dispersion_known:
        out += [*np.log(point.dispersion), *(np.log(point.dispersion) ** 2)]
        # how the parameters go with the data
        eta = oracle.linear_predictor(model, point.beta, point.b)
        out.append(np.log(point.dispersion[0]) * float(np.tanh(design.y[0] - eta[0])))
    return np.array(out)


def scans(model, parameterization, point, rng, steps, proposal):
    """Some scans from a point, given the model's response."""
    sums, target, state = prepared(model)
    target = _own(target)
    P = target.border.precision.shape[0]
    B, p = target.blocks.A.shape
    S = len(target.cells.rows)
    beta, L, sigma = np.empty((1, P)), np.zeros((1, B, p, p)), np.empty((1, S))
    b = np.empty((1, 0))
    put(model, sums, target, state, point)
    if parameterization == "collapsed":
        other = new_state(target, new_factor(target.arrow), state.L, state.sigma)
        t = coordinates(model, point)
        value = collapsed.log_marginal(target, state, t)
        assert np.isfinite(value)
        theta = np.empty((1, len(t)))
        centre, spread = proposal
        normal = 0.8 * rng.integers(2)  # with and without
        _, swapped, _ = collapsed.run_collapsed(
            target, state, other, t, value, centre, spread, normal, steps, theta, beta, b, L, sigma, np.empty(1), rng
        )
        now = other if swapped else state
        return point_of(model, sums, target, now)
    location = {"centered": scan.CENTERED, "uncentered": scan.UNCENTERED}.get(parameterization, scan.JOINT)
    whitened = parameterization == "blocked"
    assert scan.run_scans(target, state, location, whitened, steps, beta, b, L, sigma, rng) == 1
    return point_of(model, sums, target, state)


def joint_distribution(model, parameterization, replicates, steps, rng):
    """z of every function: after some scans against before."""
    proposal = None
    if parameterization == "collapsed":
        theta = np.array([coordinates(model, oracle.draw_from_prior(model, rng)) for _ in range(200)])
        # anything will do, as long as it is fixed
        proposal = theta.mean(axis=0), np.linalg.cholesky(np.atleast_2d(np.cov(theta.T)) * 0.6)
    gaps = []
    for _ in range(replicates):
        point = oracle.draw_from_prior(model, rng)
        there = oracle.clone(model, oracle.draw_response(model, point, rng))
        after = scans(there, parameterization, point, rng, steps, proposal)
        gaps.append(functions(there, after) - functions(there, point))
    return oracle.standard_errors_from_zero(np.array(gaps))


MODELS = {
    **{name: (name, None) for name in STRUCTURES},
    "inverse Wishart": ("one factor", {"beta": Normal(0, 2), "Sigma": InverseWishart(6, 2.0), "sigma": HalfT(4, 1)}),
    "Huang & Wand": ("one factor", {"beta": Normal(0, 2), "Sigma": HuangWand(2, 1.0), "sigma2": InverseGamma(3, 2)}),
    "gamma precisions": (
        "crossed",
        {"beta": Normal(0, 2), "precision_h": Gamma(3, 2), "sd_g": Exponential(1.0), "sigma": Uniform(0.2, 3)},
    ),
    "any prior on beta": (
        "group-level column",
        {
            "beta": StudentT(5, 0, 1), "beta[Intercept]": Normal(0, 2), "beta[v]": Uniform(-2, 1),
            "sd": HalfNormal(1), "sigma": HalfT(4, 1),
        },
    ),
    "any prior on the intercept": (
        "one factor",
        {"beta": Normal(0, 1), "beta[Intercept]": StudentT(6, 1, 1), "sd": HalfNormal(1), "sigma": HalfT(4, 1)},
    ),
}  # fmt: skip
AWKWARD = ("any prior on beta", "any prior on the intercept")
QUICK = ["crossed, the smaller one has slopes", "nested", "sigma within groups", "any prior on beta"]


def takes(name, parameterization):
    return not (parameterization == "collapsed" and (name in AWKWARD or name == "no groups"))


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", QUICK)
def test_scans_keep_the_joint_distribution(name, parameterization, rng):
    if not takes(name, parameterization):
        pytest.skip("not a model of the collapsed sampler")
    z = joint_distribution(build(*MODELS[name]), parameterization, 1500, 3, rng)
    assert np.abs(z).max() < 4.3, np.round(z, 1)


@pytest.mark.slow
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_joint_distribution(name, parameterization, rng):
    if not takes(name, parameterization):
        pytest.skip("not a model of the collapsed sampler")
    z = joint_distribution(build(*MODELS[name]), parameterization, 4000, 4, rng)
    assert np.abs(z).max() < 4.5, np.round(z, 1)


@pytest.mark.parametrize("structure", ["crossed", "sigma across groups", "group-level column"])
def test_joint_draws_have_the_conditional_moments(structure, rng):
    """One JOINT location step from any state: mean and covariance of all coefficients given theta."""
    model = build(structure)
    point = oracle.draw_from_prior(model, rng)
    mean, V = oracle.conditional(model, point.Sigma, point.dispersion)
    sums, target, state = prepared(model)
    target = _own(target)
    B, p = target.blocks.A.shape
    q = int((target.levels * target.sizes).sum())
    P = len(point.beta)
    n = 1500
    out = np.empty((n, q + P))
    for i in range(n):
        put(model, sums, target, state, point)
        beta, b = np.empty((1, P)), np.empty((1, q))
        L, sigma = np.zeros((1, B, p, p)), np.empty((1, len(point.dispersion)))
        scan.run_scans(target, state, scan.JOINT, False, 1, beta, b, L, sigma, rng)
        now = point_of(model, sums, target, state)
        out[i] = np.concatenate([*(v.ravel() for v in now.b), now.beta])
    z = np.linalg.solve(np.linalg.cholesky(V), (out - mean).T)
    assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(n)
    assert np.abs(z @ z.T / n - np.eye(len(z))).max() < 5.5 * np.sqrt(2 / n)


def test_the_joint_density_agrees_with_the_marginal(rng):
    """log p(y, x | theta) − log p(x | y, theta) = log p(y | theta): the two oracles are one."""
    model = build("crossed")
    point = oracle.draw_from_prior(model, rng)
    mean, V = oracle.conditional(model, point.Sigma, point.dispersion)
    x = np.concatenate([*(v.ravel() for v in point.b), point.beta])
    e = x - mean
    conditional = -0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] + e @ np.linalg.solve(V, e))
    rest = oracle.log_joint(model, point) - oracle.log_prior(model, point)
    beta = log_density_beta(model.bound, point.beta)
    np.testing.assert_allclose(
        rest + beta - conditional, oracle.log_marginal(model, point.Sigma, point.dispersion), rtol=1e-9
    )


def test_no_groups_and_known_errors_is_an_exact_sample():
    """Ordinary regression with known standard errors: independent draws from the conditional."""
    data = table()
    fit = bayou.fit(
        "measured(y, se) ~ x", data, priors={"beta": Normal(0, 3)}, engine=Gibbs(draws=4000, chains=2, warmup=0), seed=3
    )
    model = fit.result.model
    mean, V = oracle.conditional(model, [], np.ones(1))
    draws = fit.result.draws["beta"].reshape(-1, 2)
    assert "sigma" not in fit.result.draws
    z = np.linalg.solve(np.linalg.cholesky(V), (draws - mean).T)
    assert np.abs(z.mean(axis=1)).max() < 4 / np.sqrt(len(draws))
    assert np.abs(z @ z.T / len(draws) - np.eye(2)).max() < 0.08


PLACES = {
    "variance_g": Uniform(1e-5, 1e-4),
    "precision_g": Uniform(400.0, 500.0),
    "sd_g": Uniform(7.0, 8.0),
    "sigma2": Uniform(1e-3, 2e-3),
    "sigma": Uniform(30.0, 40.0),
}


@pytest.mark.parametrize("engine", [*PARAMETERIZATIONS, "metropolis"])
@pytest.mark.parametrize("key", PLACES)
def test_draws_stay_in_a_bounded_support(key, engine):
    """Wherever the starting values would lie, draws lie where the prior allows."""
    settings = {"draws": 50, "warmup": 300, "chains": 2, "seed": 2, "progress": False}
    if engine != "metropolis":
        settings["parameterization"] = engine
    other = {"sigma": HalfNormal(1)} if key.endswith("_g") else {"sd_g": HalfNormal(1)}
    priors = {"beta": Normal(0, 3), **other}
    fit = bayou.fit(
        "y ~ x + (1 | g)", table(), priors={**priors, key: PLACES[key]},
        engine="metropolis" if engine == "metropolis" else "gibbs", **settings,
    )  # fmt: skip
    draws = fit.result.draws["sd_g" if key.endswith("_g") else "sigma"]
    value = {"variance": draws**2, "precision": draws**-2.0, "sigma2": draws**2}.get(key.split("_")[0], draws)
    assert value.min() >= PLACES[key].lower
    assert value.max() <= PLACES[key].upper
    assert np.ptp(value) > 0


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_what_is_chosen_is_told(parameterization):
    fit = bayou.fit(
        "y ~ x + (x | g)", table(), seed=1, priors=PRIORS,
        engine=Gibbs(draws=20, warmup=20, chains=1, parameterization=parameterization),
    )  # fmt: skip
    assert fit.result.info["method"].startswith(parameterization)


def test_collapsed_turns_to_blocked_beyond_ten_numbers_and_for_awkward_priors():
    fit = bayou.fit(
        "y ~ x + (x * u | g) + (1 | h)", table(), seed=1, draws=20, warmup=20, chains=1, engine="gibbs"
    )  # fmt: skip
    assert fit.result.info["method"].startswith("blocked")
    fit = bayou.fit(
        "y ~ x + (x | g)", table(), seed=1, draws=20, warmup=20, chains=1, engine="gibbs",
        priors={"beta[x]": StudentT(3, 0, 1)},
    )  # fmt: skip
    assert fit.result.info["method"].startswith("blocked")


def test_refusals_name_the_engine_that_can():
    counts = {**table(), "k": np.arange(30) % 4}
    with pytest.raises(Unsupported, match=r"identity link.*poisson.*engine='metropolis'"):
        bayou.fit("k ~ x + (1 | g)", counts, family="poisson", engine="gibbs", seed=1)
    with pytest.raises(Unsupported, match=r"link log.*engine='metropolis'"):
        bayou.fit("w ~ x", counts, family=bayou.families.Gaussian(link="log"), engine="gibbs", seed=1)
    with pytest.raises(Unsupported, match="'sideways'.*collapsed, blocked, marginal, centered, uncentered"):
        Gibbs(parameterization="sideways")


def test_a_border_too_large_for_dense_matrices(monkeypatch):
    monkeypatch.setattr(bayou.engines.gibbs, "DENSE_LIMIT", 3)
    with pytest.raises(Unsupported, match=r"6 rows and columns.*takes up to 3.*parameterization='crossed'"):
        bayou.fit("y ~ x + (1 | g) + (1 | h)", table(), engine=Gibbs(parameterization="blocked"), seed=1)
    few = Gibbs(parameterization="crossed", draws=20, warmup=20, chains=1)
    assert bayou.fit("y ~ x + (1 | g) + (1 | h)", table(), engine=few, seed=1).result.info["engine"] == "gibbs"


def test_shift_and_offset_do_not_matter():
    """Adding a constant to y, or to the offset, moves the intercept's posterior and nothing else."""
    data = table()
    settings = dict(engine=Gibbs(draws=50, warmup=50, chains=1, parameterization="uncentered"), seed=4)
    priors = {"beta[Intercept]": Normal(0, 1e6), "beta[x]": Normal(0, 3), "sd": HalfNormal(1), "sigma": HalfT(4, 1)}
    one = bayou.fit("y ~ x + (1 | g)", data, priors=priors, **settings).result.draws
    far = {**data, "y": data["y"] + 1000.0}
    two = bayou.fit("y ~ x + (1 | g)", far, priors=priors, **settings).result.draws
    np.testing.assert_allclose(two["beta"][..., 0] - 1000.0, one["beta"][..., 0], atol=1e-5)
    np.testing.assert_allclose(two["sigma"], one["sigma"], rtol=1e-6)
    three = bayou.fit("y ~ x + offset(c) + (1 | g)", {**far, "c": np.full(30, 1000.0)}, priors=priors, **settings)
    np.testing.assert_allclose(three.result.draws["beta"], one["beta"], atol=1e-6)


def test_sums_serve_any_number_of_rows():
    """The same rows twice with half the weight: the same sums, but the likelihood counts rows for sigma."""
    data = table()
    twice = {k: np.concatenate([v, v]) for k, v in data.items()}
    twice["w"] = np.full(60, 0.5)
    priors = {"beta": Normal(0, 2), "sd": HalfNormal(1), "sigma": HalfT(4, 1)}
    one = sufficient(Model("y ~ x + (1 | g)", data, priors=priors)).cells
    two = sufficient(Model("y ~ x + (1 | g)", twice, priors=priors, weights="w")).cells
    np.testing.assert_allclose(one.A, two.A)
    np.testing.assert_allclose(one.squares, two.squares)
    assert two.rows[0] == 2 * one.rows[0]
