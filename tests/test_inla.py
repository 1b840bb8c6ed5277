"""INLA as a whole: against exact posteriors by quadrature, and what it says of itself."""

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.conditional.field import Field
from bayou.engines.inla import INLA
from bayou.engines.nested.run import find
from bayou.errors import DataError, Unsupported
from dense_nested import exact_intercept

GRID = np.linspace(-11.0, 2.0, 157)


def counts(seed=5, J=10, n=4, family="poisson", sd=0.8):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), n)
    eta = 0.2 + rng.normal(0.0, sd, J)[g]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int)
    priors = {"sd": bayou.priors.PC(1.0, 0.01), "beta": bayou.priors.Normal(0.0, 5.0)}
    return bayou.Model("y ~ 1 + (1 | g)", {"y": y, "g": g.astype(str)}, family=family, priors=priors)


def run(model, seed=1, **settings):
    return INLA(**settings).run(model, np.random.default_rng(seed))


@pytest.mark.parametrize("family", ["poisson", "bernoulli"])
def test_the_weighted_answer_is_exact(family):
    model = counts(family=family)
    exact = exact_intercept(model, GRID)
    found = run(model).approximation
    assert found.check["ok"] and found.check["corrected"]
    assert found.log_marginal == pytest.approx(exact.log_marginal, abs=max(0.01, 4 * found.log_marginal_error))
    beta, sd = found.marginals["beta[Intercept]"], found.marginals["sd_g[Intercept]"]
    off = 0.02 + 3 * found.check["error"]
    assert beta.mean == pytest.approx(exact.beta[0], abs=off * exact.beta[1])
    assert beta.sd == pytest.approx(exact.beta[1], rel=0.02 + off)
    assert sd.mean == pytest.approx(exact.sd[0], abs=off * exact.sd[1])
    assert sd.sd == pytest.approx(exact.sd[1], rel=0.02 + off)
    cumulative = np.cumsum(exact.theta_weight) - 0.5 * exact.theta_weight
    quantiles = np.exp(np.interp([0.025, 0.5, 0.975], cumulative, exact.theta))
    assert np.allclose(sd.quantile([0.025, 0.5, 0.975]), quantiles, atol=0.05 * exact.sd[1])
    b = found.effect("b_g")
    assert np.allclose(b.mean[:, 0], exact.b[0], atol=0.06 * exact.b[1].max())
    assert np.allclose(b.sd[:, 0], exact.b[1], rtol=0.06)


def test_it_is_nearer_than_the_unweighted_one():
    """Bernoulli rows: Laplace is off, and the check says by how much."""
    model = counts(seed=3, J=25, n=4, family="bernoulli", sd=1.5)
    exact = exact_intercept(model, GRID)
    plain = run(model, correct=False).approximation
    found = run(model).approximation
    off = [abs(a.marginals["sd_g[Intercept]"].mean - exact.sd[0]) / exact.sd[1] for a in (plain, found)]
    assert off[1] < 0.05 < off[0]
    assert found.check["shift"] == pytest.approx(off[0], abs=0.12)
    assert abs(found.log_marginal - exact.log_marginal) < 0.1 < abs(plain.log_marginal - exact.log_marginal)


@pytest.mark.parametrize("strategy", ["gaussian", "variational", "simplified_laplace"])
def test_strategies_of_the_mean(strategy):
    """Given theta the corrected means are nearer to the exact mean than the mode."""
    model = counts(J=20, n=2)
    exact = exact_intercept(model, GRID)
    beta = run(model, strategy=strategy, correct=False).approximation.marginals["beta[Intercept]"]
    off = abs(beta.mean - exact.beta[0]) / exact.beta[1]
    assert off > 0.1 if strategy == "gaussian" else off < 0.06
    corrected = run(model, strategy=strategy).approximation.marginals["beta[Intercept]"]
    assert corrected.mean == pytest.approx(exact.beta[0], abs=0.06 * exact.beta[1])


def test_simplified_laplace_has_the_skewness():
    model = counts(J=20, n=2, seed=8)
    exact = exact_intercept(model, GRID)
    beta = run(model, strategy="simplified_laplace", correct=False).approximation.marginals["beta[Intercept]"]
    t = np.linspace(*beta.quantile([1e-6, 1 - 1e-6]), 4001)
    p = beta.density(t) / beta.density(t).sum()
    mean = p @ t
    sd = np.sqrt(p @ (t - mean) ** 2)
    assert p @ ((t - mean) / sd) ** 3 == pytest.approx(exact.skewness, abs=0.08)
    assert abs(exact.skewness) > 0.1


def test_a_gaussian_response_is_exact_at_the_nodes():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(8), 5)
    data = {"y": rng.normal(size=40) + rng.normal(size=8)[g], "x": rng.normal(size=40), "g": g.astype(str)}
    model = bayou.Model("y ~ x + (1 | g)", data)
    field_values = []
    field = Field(model)
    a, b = np.linspace(-6, 2.5, 171), np.linspace(-0.8, 0.8, 81)
    for s in a:
        for t in b:
            field_values.append(-field.evaluate(np.array([s, t]))[0])
    logs = np.array(field_values).reshape(len(a), len(b))
    weight = np.exp(logs - logs.max())
    log_marginal = np.log(weight.sum() * (a[1] - a[0]) * (b[1] - b[0])) + logs.max()
    weight /= weight.sum()
    found = run(model).approximation
    assert found.log_marginal == pytest.approx(log_marginal, abs=0.01)
    for name, t, p in (("sd_g[Intercept]", a, weight.sum(1)), ("sigma", b, weight.sum(0))):
        mean = p @ np.exp(t)
        sd = np.sqrt(p @ (np.exp(t) - mean) ** 2)
        assert found.marginals[name].mean == pytest.approx(mean, abs=0.02 * sd)
        assert found.marginals[name].sd == pytest.approx(sd, rel=0.02)
    assert found.check["ok"]


@pytest.mark.parametrize("nodes", ["grid", "ccd", "empirical_bayes"])
def test_all_nodes_give_the_same_corrected_answer(nodes):
    model = counts(J=15)
    exact = exact_intercept(model, GRID)
    found = run(model, nodes=nodes).approximation
    assert found.marginals["sd_g[Intercept]"].mean == pytest.approx(exact.sd[0], abs=0.15 * exact.sd[1])
    assert found.marginals["beta[Intercept]"].mean == pytest.approx(exact.beta[0], abs=0.1 * exact.beta[1])


def test_joint_draws_are_those_of_the_marginals():
    model = counts()
    posterior = run(model)
    found = posterior.approximation
    assert posterior.shape("beta") == (4, 1000, 1)
    beta, sd = posterior.flat("beta")[:, 0], posterior.flat("sd_g")[:, 0]
    for draws, name in ((beta, "beta[Intercept]"), (sd, "sd_g[Intercept]")):
        one = found.marginals[name]
        assert draws.mean() == pytest.approx(one.mean, abs=0.08 * one.sd)
        assert draws.std() == pytest.approx(one.sd, rel=0.08)
    # the level of all groups and the intercept hang together
    level = posterior.flat("b_g")[:, :, 0].mean(axis=1)
    assert np.corrcoef(beta, level)[0, 1] < -0.5


def test_the_same_seed_gives_the_same_and_threads_do_not_matter(monkeypatch):
    from bayou.engines.nested import survey

    model = counts()
    monkeypatch.setattr(survey, "LARGE", 10)
    first, second, other = run(model, cores=1), run(model, cores=3), run(model, seed=2)
    names = list(first.approximation.marginals)
    values = [[p.approximation.marginals[n].mean for n in names] for p in (first, second, other)]
    assert values[0] == values[1] != values[2]
    assert np.array_equal(first.draws["beta"], second.draws["beta"])


def twos(J=200):
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(J), 2)
    y = (rng.random(2 * J) < 1 / (1 + np.exp(-0.3 - rng.normal(0.0, 2.0, J)[g]))).astype(int)
    return bayou.Model("y ~ 1 + (1 | g)", {"y": y, "g": g.astype(str)}, family="bernoulli")


def test_binary_rows_in_twos_fail_the_check():
    """Two rows a group: Laplace shifts the sd by more than a posterior sd, which the weights must tell."""
    found = find(twos(), "variational", "auto", True, 1, np.random.default_rng(1)).corrected
    assert found.shift > 1.0
    assert any("sd_g" in reason for reason in found.reasons)


@pytest.mark.slow
def test_it_goes_on_by_markov_chain():
    model = twos()
    posterior = run(model, draws=300)
    found = posterior.approximation
    assert not found.check["ok"] and found.check["continued"]
    assert any("self-check failed" in sentence for sentence in found.messages)
    exact = exact_intercept(model, np.linspace(-2.0, 2.0, 41))
    sd = posterior.flat("sd_g")[:, 0]
    assert sd.mean() == pytest.approx(exact.sd[0], abs=0.35 * exact.sd[1])


def test_models_without_hyperparameters_and_without_fixed_effects():
    rng = np.random.default_rng(3)
    data = {"y": rng.poisson(2.0, 25), "x": rng.normal(size=25), "g": np.repeat(list("abcde"), 5)}
    none = run(bayou.Model("y ~ x", data, family="poisson")).approximation
    assert none.check["ok"] and none.nodes == 1
    chain = bayou.Model("y ~ x", data, family="poisson").fit("metropolis", seed=1, progress=False).summary()
    for name, one in none.marginals.items():
        assert one.mean == pytest.approx(chain.loc[name, "mean"], abs=0.1 * one.sd)
    model = bayou.Model("y ~ 0 + (1 | g)", data, family="poisson")
    bare = run(model).approximation
    assert bare.check["ok"]
    exact = exact_intercept(model, GRID)
    assert bare.marginals["sd_g[Intercept]"].mean == pytest.approx(exact.sd[0], abs=0.03 * exact.sd[1])
    assert bare.log_marginal == pytest.approx(exact.log_marginal, abs=0.01)


def test_a_smooth_curve():
    """The curve of a second-order walk is found, and its bands are not too narrow."""
    rng = np.random.default_rng(1)
    t = np.arange(40)
    truth = np.sin(t / 6.0)
    data = {"y": rng.poisson(np.exp(1.0 + truth)), "t": t}
    found = run(bayou.Model("y ~ rw2(t)", data, family="poisson")).approximation
    f = found.effect("f_t")
    off = (f.mean - (truth - truth.mean())) / f.sd
    assert np.sqrt(np.square(off).mean()) < 2.0
    assert f.mean.sum() == pytest.approx(0.0, abs=1e-6 * 40)


@pytest.mark.parametrize(
    "settings", [{"strategy": "laplace"}, {"nodes": "sobol"}, {"correct": 3}, {"draws": 0}, {"cores": 1.5}]
)
def test_settings_that_do_not_exist(settings):
    with pytest.raises((Unsupported, DataError)):
        INLA(**settings)


def test_what_it_does_not_take():
    data = {"y": [0.5, 1.0, 2.0, 1.5, 0.7, 1.2], "x": [1.0, 2, 3, 4, 5, 6], "g": list("aabbcc")}
    model = bayou.Model("y ~ x + (1 | g)", data, family="gamma", sigma_by="g")
    with pytest.raises(Unsupported, match="sigma_by"):
        run(model)
    priors = {"beta[x]": bayou.priors.StudentT(3, 0, 1)}
    with pytest.raises(Unsupported, match="beta"):
        run(bayou.Model("y ~ x + (1 | g)", data, priors=priors))
    rng = np.random.default_rng(0)
    many = {"y": rng.normal(size=60), **{k: rng.integers(0, 5, 60).astype(str) for k in "abcde"}}
    with pytest.raises(Unsupported, match="ccd"):
        run(bayou.Model("y ~ 1 + " + " + ".join(f"(1 | {k})" for k in "abcde"), many), nodes="grid")


# ---- published and known answers -------------------------------------------------------------


PC = {"beta": bayou.priors.Normal(0, 31.62), "sd": bayou.priors.PC(1, 0.01)}


def test_seeds_and_cbpp(shared):
    """Truth by importance sampling with 40 nodes: reference/inla/README.md; its own errors are .018 and .007."""
    seeds = pd.read_csv(shared / "data" / "bugs_seeds.csv", dtype={"plate": str})
    model = bayou.Model("proportion(r, n) ~ x1 * x2 + (1 | plate)", seeds, family="binomial", priors=PC)
    found = run(model).approximation
    sd = found.marginals["sd_plate[Intercept]"]
    assert found.log_marginal == pytest.approx(-74.919, abs=0.05)
    assert sd.mean == pytest.approx(0.258, abs=0.04 * 0.133)
    assert sd.sd == pytest.approx(0.133, rel=0.03)
    cbpp = pd.read_csv(shared / "data" / "cbpp.csv", dtype={"herd": str, "period": str})
    model = bayou.Model("proportion(incidence, size) ~ period + (1 | herd)", cbpp, family="binomial", priors=PC)
    found = run(model).approximation
    sd = found.marginals["sd_herd[Intercept]"]
    assert found.log_marginal == pytest.approx(-112.806, abs=0.03)
    assert sd.mean == pytest.approx(0.591, abs=0.03 * 0.170)
    assert sd.sd == pytest.approx(0.170, rel=0.03)


def test_draws_share_hyperparameters_among_neighbours():
    """Thousands of draws, some hundreds of hyperparameters, and both have the moments of the marginals."""
    posterior = run(counts(J=15), correct=False)
    sd, marginal = posterior.flat("sd_g")[:, 0], posterior.approximation.marginals["sd_g[Intercept]"]
    assert 400 < len(np.unique(sd)) <= 500 < len(sd)
    assert sd.mean() == pytest.approx(marginal.mean, abs=0.05 * marginal.sd)
    assert sd.std() == pytest.approx(marginal.sd, rel=0.06)
    chains = posterior.draws["sd_g"][..., 0]
    assert np.abs(chains.mean(axis=1) - marginal.mean).max() < 0.15 * marginal.sd


def test_a_prior_whose_support_excludes_the_usual_start():
    clinic = bayou.datasets.load("clinic")
    given = {"sd_clinic": bayou.priors.Uniform(2.0, 4.0)}
    model = bayou.Model(
        "proportion(favorable, patients) ~ treatment + (1 | clinic)", clinic, family="binomial", priors=given
    )
    field, t = Field(model), np.linspace(np.log(2.0), np.log(4.0), 400)[1:-1]
    heights = np.array([field.value() + field.log_prior(np.array([s])) for s in t if field.place(np.array([s]))])
    w = np.exp(heights - heights.max())
    mean = float(w @ np.exp(t) / w.sum())
    sd = float(np.sqrt(w @ np.square(np.exp(t)) / w.sum() - mean**2))
    # the edges of the prior are no place for nodes: the check sees it, and the answer is right
    row = model.fit(INLA(), seed=1).summary().loc["sd_clinic[Intercept]"]
    assert abs(row["mean"] - mean) < 0.1 * sd and abs(row["sd"] / sd - 1.0) < 0.1
    assert 2.0 <= row["lower"] < row["upper"] <= 4.0
