"""Bridge sampling against closed forms, quadrature and INLA's corrected value, and its own account of its error."""

import copy

import numpy as np
import pytest

import bayou
import nested_models as models
from bayou.conditional.field import Field
from bayou.diagnose import bridge as bridging
from bayou.diagnose.bridge import LogMarginal, bridge, improper_priors
from bayou.errors import BayouError, Unsupported
from bayou.predict.coordinates import hyperparameters
from bayou.priors import LKJ, Flat, FlatSD, Gamma, HalfNormal, InverseWishart, Jeffreys, Normal, StudentT
from dense_evidence import problem

EXACT = {"seeds": -74.9352, "cbpp": -112.8049}  # by product rules: tests/test_golden_nested.py


def close(found: LogMarginal, truth: float, most: float = 0.05) -> None:
    """As near as asked for, and as near as it says."""
    assert abs(found.value - truth) < most
    assert abs(found.value - truth) < 4.0 * found.error + 0.001
    assert found.error < most


# ---- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["gibbs", "metropolis"])
@pytest.mark.parametrize("nested", [0, 2])
def test_gaussian_models_have_the_evidence_of_the_closed_form(engine: str, nested: int) -> None:
    of = problem(nested=nested)
    close(of.model().fit(engine, seed=1).bridge(), of.log_evidence())


def test_its_error_is_that_of_repeated_runs() -> None:
    of = problem()
    truth, model = of.log_evidence(), of.model()
    found = [model.fit("gibbs", seed=seed, draws=500).bridge() for seed in range(30)]
    z = np.array([(one.value - truth) / one.error for one in found])
    assert abs(z.mean()) < 4.0 / np.sqrt(len(z))
    assert 0.5 < np.sqrt(np.square(z).mean()) < 1.4  # chi-squared of 30 degrees: .74 to 1.28 in 95 %
    spread = np.std([one.value for one in found])
    assert 0.5 < spread / np.mean([one.error for one in found]) < 1.5


@pytest.mark.parametrize("name", EXACT)
def test_models_with_many_coefficients_agree_with_quadrature(shared, name: str) -> None:
    model = models.inla(shared, name)
    close(model.fit("metropolis", seed=1).bridge(), EXACT[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["epil", "salamander", "scotland_bym2"])
def test_large_and_structured_models_agree_with_the_corrected_approximation(shared, name: str) -> None:
    model = models.inla(shared, name)
    approximation = model.fit("inla", seed=1).result.approximation
    found = model.fit("metropolis", seed=1).bridge()
    error = np.hypot(found.error, approximation.log_marginal_error)
    assert abs(found.value - approximation.log_marginal) < max(0.05, 3.0 * error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "priors"),
    [
        ("poisson", {"sd": HalfNormal(1.0), "cor": LKJ(2.0)}),
        ("negative_binomial", {"sd": HalfNormal(1.0)}),
        ("gamma", {"Sigma": InverseWishart(5.0, np.eye(2))}),
    ],
)
def test_families_with_slopes_agree_with_the_corrected_approximation(family: str, priors: dict) -> None:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(8), 6)
    x = rng.normal(size=48)
    eta = 1.0 + 0.3 * x + (0.7 * rng.normal(size=8))[g]
    spread = rng.gamma(2.0, 0.5, 48) if family == "negative_binomial" else 1.0  # without it phi may be anything
    y = rng.poisson(np.exp(eta) * spread) if family != "gamma" else np.exp(eta) * rng.gamma(4.0, 0.25, 48)
    model = bayou.Model("y ~ x + (x | g)", {"y": y, "x": x, "g": g}, family, {"beta": Normal(0.0, 2.0), **priors})
    # each run's p(y) is unbiased; where phi may be almost anything one alone has an error of .04
    runs = np.array([model.fit("inla", seed=seed).result.approximation.log_marginal for seed in range(1, 17)])
    reference = np.log(np.exp(runs - runs.max()).mean()) + runs.max()
    assert np.exp(runs - reference).std() / 4.0 < 0.02
    found = model.fit("metropolis", seed=1).bridge()
    assert abs(found.value - reference) < 0.05


def test_fixed_effects_alone_and_with_other_priors() -> None:
    """By quadrature over the two coefficients."""
    rng = np.random.default_rng(7)
    data = {"y": rng.poisson(2.0, 25), "x": rng.normal(size=25)}
    grid = np.linspace(-3.0, 3.0, 401)
    a, b = (one.ravel() for one in np.meshgrid(grid, grid, indexing="ij"))
    family = bayou.families.get("poisson")
    loglik = family.log_density(data["y"], a[:, None] + b[:, None] * data["x"]).sum(axis=1)
    for slope in (Normal(0.0, 1.0), StudentT(3.0, 0.2, 0.5)):
        logs = loglik + Normal(0.0, 2.0).log_density(a) + slope.log_density(b)
        truth = np.log(np.exp(logs - logs.max()).sum()) + logs.max() + 2.0 * np.log(grid[1] - grid[0])
        priors = {"beta[Intercept]": Normal(0.0, 2.0), "beta[x]": slope}
        fit = bayou.fit("y ~ x", data, "poisson", priors, engine="metropolis", seed=1)
        close(fit.bridge(), truth)


def test_the_iteration_finds_a_known_ratio() -> None:
    """Of two normal densities, one of them times e³."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(4, 2000)), 0.4 + 1.3 * rng.normal(size=8000)

    def log_ratio(t: np.ndarray) -> np.ndarray:
        return 3.0 - 0.5 * t**2 + 0.5 * ((t - 0.4) / 1.3) ** 2 + np.log(1.3)

    found = bridging._settled(log_ratio(x), log_ratio(y))
    assert abs(found.value - 3.0) < 4.0 * found.error and found.error < 0.01


# ---- refusals --------------------------------------------------------------------------------


SCHOOL = "score ~ ses + (1 | school)"


@pytest.mark.parametrize(
    ("priors", "named"),
    [
        ({"beta": Flat()}, "fixed effects Intercept, ses"),
        ({"beta[ses]": Flat()}, "fixed effects ses"),
        ({"sd": FlatSD()}, r"sd_school\[Intercept\]"),
        ({"sigma": Jeffreys()}, "sigma"),
    ],
)
def test_improper_priors_are_refused_by_name(priors: dict, named: str) -> None:
    fit = bayou.fit(SCHOOL, bayou.datasets.load("school"), priors=priors, seed=1, draws=100, warmup=100)
    with pytest.raises(Unsupported, match=f"not defined.*{named}.*constant"):
        fit.bridge()


def test_what_is_proper_and_what_is_not() -> None:
    data = {"y": np.arange(12.0) ** 2, "t": np.arange(12.0), "g": np.arange(12) % 3}
    assert improper_priors(bayou.Model("y ~ 1 + rw1(t) + (1 | g)", data)) == []
    assert improper_priors(bayou.Model("y ~ 1 + rw2(t)", data)) == ["a part of rw2(t)"]
    assert improper_priors(bayou.Model("y ~ 1 + (1 | g)", data, priors={"precision_g": Gamma(1.0, 1.0)})) == []


def test_engines_without_chains_are_refused() -> None:
    model = bayou.Model(SCHOOL, bayou.datasets.load("school"))
    with pytest.raises(Unsupported, match=r"by ML.*engine='gibbs'"):
        model.fit("ml", seed=1).bridge()
    with pytest.raises(Unsupported, match=r"fit\.log_marginal"):
        model.fit("inla", seed=1, correct=False).bridge()


def test_few_draws_and_draws_of_another_model_are_refused() -> None:
    of = problem()
    with pytest.raises(BayouError, match="more draws"):
        of.model().fit("gibbs", seed=1, draws=10).bridge()
    fit = of.model().fit("gibbs", seed=1, draws=200)
    found = bridge(fit.result)
    assert float(found) == found.value == bridge(fit.result).value and "standard error" in str(found)
    assert bridge(fit.result, seed=5).value != found.value
    result = copy.copy(fit.result)
    result.draws = {**result.draws, "sd_g": np.full_like(result.draws["sd_g"], 0.5)}
    with pytest.raises(BayouError, match="do not vary"):
        bridge(result)


def test_draws_that_round_to_their_borders_have_coordinates() -> None:
    data = {"y": np.arange(24.0) % 7, "t": np.arange(24.0), "g": np.arange(24) % 4, "x": np.arange(24.0) % 5}
    result = bayou.Model("y ~ x + (x | g) + ar1(t)", data).fit(seed=1, draws=20, warmup=50).result
    result.draws["rho_t"][0, 0], result.draws["rho_t"][0, 1] = 1.0, -1.0
    result.draws["cor_g"][0, 0] = 1.0
    result.draws["sd_g"][0, 2] = 0.0
    thetas = hyperparameters(Field(result.model), result, np.arange(4))
    assert np.isfinite(thetas).all()
    named = Field(result.model).unpack_theta(thetas[1])
    np.testing.assert_allclose(named["cor_g"], result.draws["cor_g"][1, :4], atol=1e-9)
    np.testing.assert_allclose(named["rho_t"], result.draws["rho_t"][1, :4], rtol=1e-9)
