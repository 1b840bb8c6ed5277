"""DIC, WAIC, CPO and PIT against exact answers: a Gaussian model in closed form, a Poisson one by quadrature."""

import numpy as np
import pytest
from scipy import stats

import bayou
from bayou.conditional.field import Field
from bayou.engines.nested.criteria import scores
from bayou.engines.nested.explore import explore
from bayou.engines.nested.likelihood import Likelihood
from bayou.engines.nested.survey import survey


def at_one_theta(model, theta, strategy="variational"):
    """The nodes of empirical Bayes, placed where we want it."""
    field, rows = Field(model), Likelihood(model)
    mode = explore(field)
    object.__setattr__(mode, "theta", np.asarray(theta, dtype=float))
    return field, rows, survey(field, rows, mode, "empirical_bayes", strategy, 1)


def test_gaussian_rows_in_closed_form(rng):
    g = np.repeat(np.arange(5), 4)
    data = {"y": rng.normal(size=20) + rng.normal(size=5)[g], "g": g.astype(str)}
    model = bayou.Model("y ~ 1 + (1 | g)", data)
    tau, sigma = 0.8, 0.9
    field, rows, nodes = at_one_theta(model, np.log([tau, sigma]))
    found = scores(rows, nodes, np.zeros(1))
    A = np.column_stack([np.eye(5)[g], np.ones(20)])
    prior = np.diag([tau**2] * 5 + [1.0 / model.bound.beta_precision[0, 0]])
    mean = A[:, -1] * model.bound.beta_mean[0]
    V = A @ prior @ A.T + sigma**2 * np.eye(20)
    P = np.linalg.inv(V)
    r = data["y"] - mean
    # the leave-one-out predictive of a multivariate normal (Rasmussen & Williams 2006, 5.12)
    sd = 1.0 / np.sqrt(np.diag(P))
    centre = data["y"] - (P @ r) / np.diag(P)
    assert np.allclose(found.cpo, stats.norm.pdf(data["y"], centre, sd), rtol=1e-6)
    assert np.allclose(found.pit, stats.norm.cdf(data["y"], centre, sd), atol=1e-4)
    post = V - sigma**2 * np.eye(20)
    m = mean + post @ P @ r
    v = np.diag(post - post @ P @ post)
    deviance = np.log(2 * np.pi * sigma**2) + np.square(data["y"] - m) / sigma**2
    assert found.dic_parameters == pytest.approx((v / sigma**2).sum(), rel=1e-6)
    assert found.dic == pytest.approx((deviance + 2 * v / sigma**2).sum(), rel=1e-8)
    predictive = stats.norm.logpdf(data["y"], m, np.sqrt(v + sigma**2)).sum()
    # V of −½ (y − eta)² / sigma² for eta ~ N(m, v)
    spread = (v * np.square(data["y"] - m) + 0.5 * v**2) / sigma**4
    assert found.waic_parameters == pytest.approx(spread.sum(), rel=1e-6)
    assert found.waic == pytest.approx(-2 * predictive + 2 * spread.sum(), rel=1e-6)


def test_counts_one_by_one(rng):
    """Each count has a coefficient of its own and no fixed effects: leaving it out leaves its prior."""
    y = np.array([0, 1, 2, 4, 7])
    model = bayou.Model("y ~ 0 + (1 | g)", {"y": y, "g": list("abcde")}, family="poisson")
    _, rows, nodes = at_one_theta(model, [-0.3])
    found = scores(rows, nodes, np.zeros(1))
    b = np.linspace(-7, 7, 20_001) * np.exp(-0.3)
    w = np.exp(-0.5 * np.square(b / np.exp(-0.3)))
    w /= w.sum()
    exact = w @ stats.poisson.pmf(y, np.exp(b)[:, None])
    # the cavity of Laplace's Gaussian is that prior only as far as its mean and variance are right
    assert np.allclose(np.log(found.cpo), np.log(exact), atol=0.12)
    assert np.allclose(found.pit, w @ stats.poisson.cdf(y, np.exp(b)[:, None]), atol=0.04)


def test_a_row_that_is_all_there_is_fails(rng):
    """A coefficient with a prior of no width to speak of is known from its row alone."""
    y = np.array([500.0, 3.0, 2.0, 1.0])
    prior = bayou.Priors(sd=bayou.priors.HalfNormal(100.0))
    model = bayou.Model("y ~ 0 + (1 | g)", {"y": y, "g": list("abcd")}, family="poisson", priors=prior)
    _, rows, nodes = at_one_theta(model, [np.log(60.0)])
    found = scores(rows, nodes, np.zeros(1))
    assert np.isnan(found.cpo[0]) and np.isnan(found.pit[0])


def test_nodes_are_averaged(rng):
    y = rng.poisson(3.0, 30)
    data = {"y": y, "g": np.repeat(np.arange(10), 3).astype(str)}
    model = bayou.Model("y ~ 1 + (1 | g)", data, family="poisson")
    field, rows = Field(model), Likelihood(model)
    nodes = survey(field, rows, explore(field), "grid", "variational", 1)
    logs = nodes.log_shares
    both = scores(rows, nodes, logs)
    each = []
    for k in range(len(logs)):
        alone = np.full(len(logs), -1e3)
        alone[k] = 0.0
        each.append(scores(rows, nodes, alone).cpo)
    # the harmonic mean over the nodes
    assert np.allclose(both.cpo, 1.0 / (np.exp(logs) @ (1.0 / np.array(each))), rtol=1e-6)
