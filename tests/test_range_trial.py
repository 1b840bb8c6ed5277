"""The split-plot layout of the range trial: blocks, managements on whole plots, seed mixes on sub-plots, counts."""

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.engines import PQL

FORMULA = "plants ~ management + mix + (1 | block/management)"


@pytest.fixture(scope="module")
def trial():
    return bayou.datasets.load("range")


@pytest.fixture(scope="module")
def fits(trial):
    return {
        name: bayou.fit(FORMULA, trial, family=family, engine=engine, seed=1)
        for name, (family, engine) in {
            "poisson": ("poisson", "laplace"),
            "negative binomial": ("negative_binomial", "laplace"),
            "pql": ("poisson", "pql"),
            "pql, free": ("poisson", PQL(dispersion="free")),
            "pql, negative binomial": ("negative_binomial", "pql"),
        }.items()
    }


def test_every_method_fits_and_is_ok(fits):
    for name, fit in fits.items():
        assert fit.verdict.ok, (name, fit.verdict.reasons)
        assert np.all(np.isfinite(fit.fixed_effects[["estimate", "se"]]))


def test_negative_binomial_counts_are_recognised(fits):
    assert fits["negative binomial"].aic < fits["poisson"].aic - 10.0
    truth = bayou.datasets.describe("range").parameters
    phi = fits["negative binomial"].variance_components.loc["phi"]
    assert phi["lower"] < truth["phi"] < phi["upper"]
    overdispersion = fits["pql, free"].variance_components.loc["phi", "estimate"]
    assert 1.2 < overdispersion < 4.0
    by_equation = fits["pql, negative binomial"].variance_components.loc["phi"]
    assert abs(np.log(by_equation["estimate"] / phi["estimate"])) < 0.6
    assert np.isnan(by_equation["se"])  # the equation gives no error of its own


def test_standard_errors_tell_whole_plots_from_sub_plots(fits):
    """A management is compared between whole plots, a mix within them: the latter is known better."""
    effects = fits["negative binomial"].fixed_effects
    management = effects.loc[[name.startswith("management") for name in effects.index], "se"]
    mix = effects.loc[[name.startswith("mix") for name in effects.index], "se"]
    assert management.min() > 1.4 * mix.max()
    # a Poisson model that denies overdispersion believes the mixes too much
    naive = fits["poisson"].fixed_effects
    assert naive.loc[mix.index, "se"].max() < 0.8 * mix.min()


def test_terms_and_means(fits, trial):
    fit = fits["negative binomial"]
    table = fit.anova()
    assert list(table.table().index if hasattr(table, "table") else table.index) == ["management", "mix"]
    assert fit.test("mix").p < 1e-6
    means = fit.marginal_means("mix")
    raw = np.log(trial.groupby("mix")["plants"].mean())
    assert np.all(np.abs(means["estimate"] - means["estimate"].mean() - (raw - raw.mean())) < 0.15)


def test_webworms(shared):
    """Beall's webworms: a 2 x 2 factorial in blocks, counts that vary more than Poisson's."""
    data = pd.read_csv(shared / "data" / "agridat_beall.webworms.csv")
    formula = "y ~ spray * lead + (1 | block)"
    poisson = bayou.fit(formula, data, family="poisson", engine="laplace", seed=1)
    negative = bayou.fit(formula, data, family="negative_binomial", engine="laplace", seed=1)
    free = bayou.fit(formula, data, family="poisson", engine=PQL(dispersion="free"), seed=1)
    for fit in (poisson, negative, free):
        assert fit.verdict.ok, fit.verdict.reasons
    assert negative.aic < poisson.aic - 30.0
    assert free.variance_components.loc["phi", "estimate"] > 1.2
    # the estimates agree, and the honest standard errors are the larger ones
    one, other = poisson.fixed_effects, negative.fixed_effects
    assert np.all(np.abs(one["estimate"] - other["estimate"]) < 0.5 * other["se"])
    assert np.all(other["se"][1:] > 1.1 * one["se"][1:])
