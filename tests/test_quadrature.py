"""The engine `quadrature`: published tables, the Laplace approximation as one node, what it refuses and says."""

import json

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.conditional.adaptive import AdaptiveQuadrature
from bayou.conditional.laplace import Laplace
from bayou.engines import Quadrature
from bayou.errors import DataError, Unsupported

CLINIC = "proportion(favorable, patients) ~ treatment + (1 | clinic)"


@pytest.fixture(scope="module")
def clinic():
    return bayou.Model(CLINIC, bayou.datasets.load("clinic"), family="binomial")


@pytest.fixture(scope="module")
def zoo():
    """Rows with an outcome for each family, of 12 levels with intercepts and slopes."""
    rng = np.random.default_rng(1)
    n, J = 200, 12
    g, x, s = rng.integers(0, J, n), rng.standard_normal(n), rng.integers(0, 2, n)
    exposure = rng.normal(0.0, 0.3, n)
    eta = 0.3 + 0.5 * x + rng.normal(0, 0.7, J)[g] + rng.normal(0, 0.5, J)[g] * x + exposure
    return {
        "x": x, "g": g, "s": np.array(["a", "b"])[s], "z": rng.standard_normal(n), "w": rng.uniform(0.5, 2.0, n),
        "exposure": exposure,
        "measured": eta + rng.standard_normal(n) * (1 + s),
        "positive": np.exp(eta) * rng.gamma(2.0, 0.5, n),
        "count": rng.poisson(np.exp(eta)),
        "spread_count": rng.negative_binomial(2, 2 / (2 + np.exp(eta))),
        "binary": rng.binomial(1, 1 / (1 + np.exp(-eta))),
    }  # fmt: skip


# ---- published numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nodes,beta,errors,variance,deviance",
    [
        (61, (-1.19762, 0.73848), (0.55646, 0.30043), 1.96234, 74.0382),
        (5, (-1.1974, 0.7385), (0.5561, 0.3004), 1.9591, None),
        (1, (-1.1965, 0.7382), (0.5529, 0.3004), 1.9313, 74.2013),
    ],
)
def test_clinic(clinic, nodes, beta, errors, variance, deviance):
    fit = clinic.fit("quadrature", nodes=nodes, seed=1)
    # one unit of the last digit printed in the table
    digit = 1e-5 if nodes == 61 else 1e-4
    np.testing.assert_allclose(fit.fixed_effects["estimate"], beta, atol=digit)
    np.testing.assert_allclose(fit.fixed_effects["se"], errors, atol=digit)
    np.testing.assert_allclose(fit.variance_components["estimate"].iloc[0] ** 2, variance, atol=digit)
    if deviance is not None:
        assert abs(-2.0 * fit.log_likelihood - deviance) < 1.01e-4
    assert fit.verdict.ok


@pytest.mark.parametrize("nodes,file,name", [(61, "exact_cbpp", "logLik_full"), (1, "ownlaplace_cbpp", "logLik")])
def test_cbpp(shared, nodes, file, name):
    exact = json.loads((shared / "reference" / "exact" / f"{file}.json").read_text("utf-8"))
    data = pd.read_csv(shared / "data" / "cbpp.csv").astype({"period": str})
    formula = "proportion(incidence, size) ~ period + (1 | herd)"
    fit = bayou.fit(formula, data, family="binomial", engine=Quadrature(nodes=nodes), seed=1)
    assert abs(fit.log_likelihood - exact[name]) < 1e-7
    # the reference stopped where its likelihood was flat to 1e-13 of 92: 1e-5 standard errors
    errors = np.array(list(exact["se"].values()))
    np.testing.assert_allclose(
        fit.fixed_effects["estimate"] / errors, list(exact["fixef"].values()) / errors, atol=1e-4
    )
    np.testing.assert_allclose(fit.fixed_effects["se"], errors, rtol=1e-4)
    sd = fit.variance_components.loc["sd_herd[Intercept]"]
    np.testing.assert_allclose(sd["estimate"], exact["sd"], rtol=1e-4)
    np.testing.assert_allclose(sd["se"] / sd["estimate"], exact["se_logsd"], rtol=1e-3)


# ---- beside other engines ----------------------------------------------------------------------


KINDS = [
    ("measured", "gaussian", {}), ("measured", "gaussian", {"sigma_by": "s", "weights": "w"}),
    ("count", "poisson", {"weights": "w"}), ("spread_count", "negative_binomial", {}),
    ("positive", "gamma", {"weights": "w"}), ("binary", "bernoulli", {}),
    ("binary", bayou.families.Bernoulli(link="probit"), {}), ("binary", bayou.families.Bernoulli(link="cloglog"), {}),
    ("positive", bayou.families.Gaussian(link="log"), {"sigma_by": "s"}),
]  # fmt: skip


@pytest.mark.parametrize("bars", ["(1 | g)", "(x | g)", "(x || g)", "(x + z | g)"])
@pytest.mark.parametrize("outcome,family,more", KINDS, ids=lambda v: str(v) if not isinstance(v, dict) else "")
def test_likelihood_at_one_node_is_that_of_laplace(zoo, outcome, family, more, bars):
    model = bayou.Model(f"{outcome} ~ x + offset(exposure) + {bars}", zoo, family=family, **more)
    one, other = AdaptiveQuadrature(model, 1), Laplace(model)
    psi = np.random.default_rng(2).normal(0.0, 0.3, one.size)
    value, slopes = one.evaluate(psi)
    reference, of_reference = other.evaluate(psi)
    assert abs(value - reference) < 1e-7
    np.testing.assert_allclose(slopes, of_reference, atol=1e-6 * max(1.0, np.abs(of_reference).max()))
    more_nodes = AdaptiveQuadrature(model, 3)
    _, slopes = more_nodes.evaluate(psi)
    step = 1e-4
    for i, unit in enumerate(np.eye(len(psi))):
        values = [more_nodes.evaluate(psi + k * step * unit)[0] for k in (-2, -1, 1, 2)]
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert abs(slope - slopes[i]) < 1e-7 * max(1.0, np.abs(slopes).max())


@pytest.mark.parametrize("outcome,family,more", [KINDS[0], KINDS[3], KINDS[5]], ids=["gaussian", "negative", "binary"])
def test_one_node_is_laplace(zoo, outcome, family, more):
    model = bayou.Model(f"{outcome} ~ x + (x | g)", zoo, family=family, **more)
    one, other = model.fit(Quadrature(nodes=1), seed=1), model.fit("laplace", seed=1)
    assert abs(one.log_likelihood - other.log_likelihood) < 1e-8
    # both searches end where a step promises less than 1e-11 of log likelihood: 1e-5 standard errors
    estimates = [fit.result.estimates for fit in (one, other)]
    np.testing.assert_allclose(*(found.estimate / estimates[0].se for found in estimates), atol=1e-4)
    mode, of_mode = one.random_effects("g"), other.random_effects("g")
    np.testing.assert_allclose(mode.iloc[:, 0], of_mode.iloc[:, 0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bars", ["(1 | g)", "(x | g)"])
def test_gaussian_is_exact_at_any_number_of_nodes(zoo, bars):
    model = bayou.Model(f"measured ~ x + {bars}", zoo)
    exact = model.fit("ml", seed=1).log_likelihood
    for nodes in (1, 3, None):
        assert abs(model.fit(Quadrature(nodes=nodes), seed=1).log_likelihood - exact) < 1e-8


def test_given_priors_are_part_of_the_criterion(zoo):
    priors = {"beta": bayou.priors.Normal(0, 1), "sd": bayou.priors.HalfNormal(0.3)}
    model = bayou.Model("binary ~ x + (1 | g)", zoo, family="bernoulli", priors=priors)
    with_priors = model.fit("quadrature", seed=1)
    without = bayou.Model("binary ~ x + (1 | g)", zoo, family="bernoulli").fit("quadrature", seed=1)
    sds = [fit.variance_components.loc["sd_g[Intercept]", "estimate"] for fit in (with_priors, without)]
    assert sds[0] < sds[1]
    assert with_priors.log_likelihood < without.log_likelihood


# ---- what it says ------------------------------------------------------------------------------


def test_default_nodes(zoo):
    for bars, nodes in (("(1 | g)", 11), ("(x | g)", 7), ("(x + z | g)", 5)):
        fit = bayou.fit(f"count ~ x + {bars}", zoo, family="poisson", engine="quadrature", seed=1)
        assert fit.result.estimates.method == f"adaptive quadrature, {nodes} nodes"
        assert fit.result.estimates.converged


def test_too_few_nodes_are_named(clinic):
    (note,) = clinic.fit("quadrature", nodes=1, seed=1).result.estimates.notes
    assert note.startswith("1 node may be too few: with 11 the log likelihood at these estimates is -37.01")
    assert note.endswith("not -37.1006. Use Quadrature(nodes=11).")
    assert not any("may be too few" in note for note in clinic.fit("quadrature", seed=1).result.estimates.notes)


def test_singular_fit_is_said():
    rng = np.random.default_rng(3)
    data = {"y": rng.binomial(1, 0.5, 400), "x": rng.standard_normal(400), "g": rng.integers(0, 100, 400)}
    fit = bayou.fit("y ~ x + (1 | g)", data, family="bernoulli", engine="quadrature", seed=1)
    assert fit.variance_components["estimate"].iloc[0] == 0.0
    assert "sd_g[Intercept] is zero" in fit.result.estimates.singular[0]
    # without the group effect it is a logistic regression, here by Newton's method
    X, beta = np.column_stack([np.ones(400), data["x"]]), np.zeros(2)
    for _ in range(20):
        p = 1.0 / (1.0 + np.exp(-X @ beta))
        beta += np.linalg.solve(X.T @ (X * (p * (1 - p))[:, None]), X.T @ (data["y"] - p))
    np.testing.assert_allclose(fit.fixed_effects["estimate"], beta, atol=1e-5)


def test_same_seed_same_draws(clinic):
    one, two = (clinic.fit("quadrature", seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(one.draws(), two.draws())
    assert list(one.predict(seed=1).columns) == ["mean", "sd", "lower", "median", "upper"]


# ---- what it refuses ---------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [0, 2, -1, 503, 5.0, "5", True])
def test_impossible_nodes(nodes):
    with pytest.raises(DataError, match="give an odd whole number from 1 .* to 501"):
        Quadrature(nodes=nodes)


@pytest.mark.parametrize(
    "formula,family,sigma_by,nodes,said",
    [
        ("count ~ x", "poisson", None, 5, "one grouping factor; this model has none. .*laplace"),
        ("count ~ x + (1 | g) + (1 | s)", "poisson", None, 5, "this model has 2, g and s. .*laplace.*metropolis"),
        (
            "count ~ x + (x + z + w | g)",
            "poisson",
            None,
            5,
            "up to 3 .* g has 4: Intercept, x, z, w. .*laplace.*metrop",
        ),
        ("count ~ x + (x + z | g)", "poisson", None, 101, "1,030,301 for every level; .* 5 are the default"),
        ("spread_count ~ x + (1 | g)", "negative_binomial", "s", 5, "one phi for all rows; .*metropolis"),
    ],
)
def test_models_that_it_refuses(zoo, formula, family, sigma_by, nodes, said):
    model = bayou.Model(formula, zoo, family=family, sigma_by=sigma_by)
    with pytest.raises(Unsupported, match=said):
        model.fit(Quadrature(nodes=nodes), seed=1)
