"""Starting points: counts of any size, priors of any kind, columns of any scale; and what is said where none will do."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import bayou
from bayou.engines import starts
from bayou.errors import Unsupported
from bayou.model import Model
from bayou.priors import StudentT, Uniform


@pytest.mark.parametrize("size", [1e3, 1e12])
def test_counts_of_any_size_are_found(size: float) -> None:
    """Newton steps from zero towards 1e12 cannot be shortened enough: the start is a regression on log counts."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(20), 10), rng.normal(size=200)
    mean = size * np.exp(0.3 * x + 0.2 * rng.normal(size=20)[g])
    data = {"k": np.round(rng.normal(mean, np.sqrt(mean))), "x": x, "g": g}
    fit = bayou.fit("k ~ x + (1 | g)", data, family="poisson", seed=1, draws=500)
    summary = fit.summary()
    assert abs(summary["mean"]["beta[x]"] - 0.3) < 5.0 * summary["sd"]["beta[x]"]
    assert summary["sd"]["beta[x]"] < 2.0 / np.sqrt(200 * size)
    assert fit.verdict.ok, fit.verdict
    assert summary["ess_bulk"].min() > 0.05 * 2000


FAMILIES = ["gaussian", "bernoulli", "binomial", "poisson", "negative_binomial", "gamma"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_start_is_near_the_truth(family: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=2000)
    eta = 0.5 + 0.8 * x
    y = {
        "gaussian": rng.normal(eta),
        "bernoulli": rng.random(2000) < 1.0 / (1.0 + np.exp(-eta)),
        "binomial": rng.binomial(20, 1.0 / (1.0 + np.exp(-eta))),
        "poisson": rng.poisson(np.exp(eta)),
        "negative_binomial": rng.poisson(np.exp(eta) * rng.gamma(3.0, 1.0 / 3.0, 2000)),
        "gamma": rng.gamma(2.0, np.exp(eta) / 2.0) + 1e-9,
    }[family]
    left = "proportion(y, n)" if family == "binomial" else "y"
    model = Model(f"{left} ~ x", {"y": y * 1, "x": x, "n": np.full(2000, 20)}, family)
    beta = model.working.to_printed @ next(starts.starting_effects(model, rng))
    assert abs(beta[1] - 0.8) < 0.5


def test_starts_lie_within_every_support() -> None:
    rng = np.random.default_rng(3)
    data = {"y": rng.normal(size=30), "x": rng.normal(size=30)}
    model = Model("y ~ x", data, priors={"beta[x]": Uniform(5.0, 6.0)})
    for beta, _ in zip(starts.starting_effects(model, rng), range(20), strict=False):
        assert 5.0 <= (model.working.to_printed @ beta)[1] <= 6.0


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_columns_that_repeat_each_other_with_priors_that_are_not_gaussian(family: str) -> None:
    """Two equal columns under t priors: only their sum is learnt, and the posterior is proper."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=60)
    y = rng.poisson(np.exp(0.5 * x)) if family == "poisson" else 0.5 * x + rng.normal(size=60)
    data = {"y": y, "x": x, "z": x}
    priors = {"beta[x]": StudentT(4, 0, 1), "beta[z]": StudentT(4, 0, 1)}
    fit = bayou.fit("y ~ x + z", data, family=family, priors=priors, seed=1, draws=2000)
    total = fit.derive("beta[x] + beta[z]")
    assert abs(float(total.mean()) - 0.5) < 0.4
    summary = fit.summary()
    assert summary["r_hat"].max() < 1.02
    # each alone is about as wide as its prior
    assert 0.4 < summary["sd"]["beta[x]"] < 2.0


def test_no_start_names_the_term_and_the_row() -> None:
    rng = np.random.default_rng(5)
    data = {"y": rng.poisson(2, 30), "x": np.where(np.arange(30) == 7, 1e6, rng.normal(size=30))}
    with pytest.raises(Unsupported, match=r"column x alone makes the linear predictor .* in row 8"):
        bayou.fit("y ~ x", data, family="poisson", priors={"beta[x]": Uniform(4.0, 5.0)}, engine="metropolis", seed=1)


@pytest.mark.parametrize("closed", [True, False])
def test_without_a_standard_error(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    rng = np.random.default_rng(6)
    fit = bayou.fit("y ~ x", {"y": rng.normal(size=30), "x": rng.normal(size=30)}, seed=1, draws=20, warmup=20)
    assert fit.result.size == 20
