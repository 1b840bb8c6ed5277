"""Hard posteriors: the default settings still give effective draws, at least a twentieth of all, and no false alarm."""

import numpy as np
import pandas as pd
import pytest

import bayou

SHARE = 0.05


def groups(number, rows):
    return np.repeat(np.arange(number), rows)


def no_variance(rng):
    return "y ~ 1 + (1 | g)", {"y": rng.normal(size=40), "g": groups(8, 5)}, "gaussian"


def less_than_no_variance(rng):
    """Group means closer together than chance allows, as in Box and Tiao's simulated dyestuff."""
    g = groups(6, 5)
    y = 60.0 * rng.normal(size=30)
    for j in range(6):
        y[g == j] += 1500.0 - y[g == j].mean()
    return "y ~ 1 + (1 | g)", {"y": y, "g": g}, "gaussian"


def counts_without_variance(rng):
    return "y ~ 1 + (1 | g)", {"y": rng.poisson(3.0, 40), "g": groups(8, 5)}, "poisson"


def two_rows_a_group(rng):
    g, x = groups(1000, 2), rng.normal(size=2000)
    p = 1.0 / (1.0 + np.exp(-0.3 - 0.5 * x - rng.normal(size=1000)[g]))
    return "y ~ x + (1 | g)", {"y": (rng.random(2000) < p).astype(int), "x": x, "g": g}, "bernoulli"


def correlation_of_one(rng):
    g, x, b = groups(30, 8), rng.normal(size=240), rng.normal(size=30)
    return "y ~ x + (x | g)", {"y": b[g] + x * (0.5 + 0.7 * b[g]) + 0.5 * rng.normal(size=240), "x": x, "g": g}, "gaussian"


def correlation_of_one_in_counts(rng):
    g, x, b = groups(30, 8), rng.normal(size=240), rng.normal(size=30)
    mu = np.exp(0.5 + 0.5 * b[g] + x * (0.2 + 0.3 * b[g]))
    return "y ~ x + (x | g)", {"y": rng.poisson(mu), "x": x, "g": g}, "poisson"


def a_million_each(rng):
    g = groups(20, 5)
    return "y ~ 1 + (1 | g)", {"y": rng.poisson(1e6 * np.exp(0.3 * rng.normal(size=20))[g]), "g": g}, "poisson"


def groups_of_zeros(rng):
    g = groups(20, 5)
    y = rng.binomial(1, 0.15, 100)
    y[g < 8] = 0
    return "y ~ 1 + (1 | g)", {"y": y, "g": g}, "bernoulli"


def ticks_on_grouse(shared):
    data = pd.read_csv(shared / "data" / "grouseticks.csv")
    return "TICKS ~ YEAR + scale(HEIGHT) + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", data, "poisson"


def verbal_aggression(shared):
    data = pd.read_csv(shared / "data" / "VerbAgg.csv")
    return "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", data, "bernoulli"


SIMULATED = [
    no_variance, less_than_no_variance, counts_without_variance, two_rows_a_group, correlation_of_one,
    correlation_of_one_in_counts, a_million_each, groups_of_zeros,
]  # fmt: skip


def check(formula, data, family):
    fit = bayou.fit(formula, data, family=family, seed=1)
    summary = fit.summary()
    draws = fit.result.chains * 2000
    worst = summary["ess_bulk"].idxmin()
    assert summary["ess_bulk"].min() >= SHARE * draws, f"{worst}: {summary['ess_bulk'].min():.0f} of {draws}"
    assert fit.verdict.ok, str(fit.verdict)


@pytest.mark.parametrize("problem", SIMULATED, ids=lambda f: f.__name__)
def test_simulated(problem):
    check(*problem(np.random.default_rng(3)))


@pytest.mark.parametrize("problem", [ticks_on_grouse, verbal_aggression], ids=lambda f: f.__name__)
def test_real(problem, shared):
    check(*problem(shared))
