"""The prior at each draw against the field's own density, and power-scaling against fits with scaled priors."""

import numpy as np
import pytest

import bayou
from bayou.binding import log_density_beta
from bayou.conditional.field import Field
from bayou.diagnose.log_prior import log_prior_parts
from bayou.diagnose.sensitivity import CONFLICT, FINE, STRONG
from bayou.errors import DataError
from bayou.predict.coordinates import hyperparameters
from bayou.priors import LKJ, PC, Flat, HalfNormal, HalfT, InverseWishart, Normal

RNG = np.random.default_rng(3)
G = np.repeat(np.arange(8), 6)
DATA = {
    "y": RNG.poisson(np.exp(1.0 + 0.5 * RNG.normal(size=8))[G]),
    "z": RNG.normal(size=48) + RNG.normal(size=8)[G],
    "x": RNG.normal(size=48),
    "g": G,
    "t": np.tile(np.arange(12.0), 4),
}
CASES = {
    "sds and correlation": ("z ~ x + (x | g)", "gaussian", {"sd": HalfT(3, 1.0), "cor": LKJ(2.0)}),
    "Huang-Wand": ("z ~ x + (x | g)", "gaussian", None),
    "one coefficient": ("z ~ x + (1 | g)", "gaussian", None),
    "Wishart": ("y ~ x + (x | g)", "poisson", {"Sigma": InverseWishart(5.0, np.eye(2))}),
    "uncorrelated": ("y ~ x + (x || g)", "poisson", {"sd": PC(1.0, 0.05)}),
    "dispersion": ("y ~ x + (1 | g)", "negative_binomial", None),
    "structured": ("z ~ x + ar1(t)", "gaussian", None),
    "several sigmas": ("z ~ x", "gaussian", None),
}


def log_slopes(field: Field, name: str, draws: dict) -> float:
    """log |d (sds, correlations, dispersion as stated) / d internal coordinates| at one draw."""
    total = 0.0
    for row in field.rows:
        value = float(np.asarray(draws[row.variable])[row.index])
        if row.scale == "atanh":
            total += np.log1p(-(value**2))
        elif row.scale == "log":
            # phi and shape have the prior of s = phi^(-1/2): ds / d log phi = s / 2
            total += np.log(value) if row.variable not in ("phi", "shape") else -0.5 * np.log(value) - np.log(2.0)
        else:
            total += np.log(value) + np.log1p(-value)
    return total


@pytest.mark.parametrize("name", CASES)
def test_the_prior_at_a_draw_is_the_fields(name: str) -> None:
    """The parts add up to the density in internal coordinates, less the Jacobian."""
    formula, family, priors = CASES[name]
    more = {"sigma_by": "g"} if name == "several sigmas" else {}
    model = bayou.Model(formula, DATA, family, priors, **more)
    result = model.fit(seed=1, draws=30, warmup=100, chains=2).result
    parts = {key: compute() for key, compute in log_prior_parts(result).items()}
    field = Field(model)
    places = np.array([0, 7, 29])
    thetas = hyperparameters(field, result, places)
    for c in range(2):
        for k, s in enumerate(places):
            draw = {key: values[c, s] for key, values in result.draws.items()}
            wanted = field.log_prior(thetas[c, k]) - log_slopes(field, name, draw)
            wanted += log_density_beta(model.bound, draw["beta"])
            found = sum(values[c, s] for values in parts.values())
            assert found == pytest.approx(wanted, abs=1e-8)


def test_parts_are_named_as_priors_are() -> None:
    names = {}
    for key, (formula, family, priors) in CASES.items():
        result = bayou.Model(formula, DATA, family, priors).fit(seed=1, draws=20, warmup=50).result
        names[key] = list(log_prior_parts(result))
    assert names["sds and correlation"] == ["beta", "sd_g", "cor_g", "sigma"]
    assert names["Wishart"] == ["beta", "Sigma_g"] and names["uncorrelated"] == ["beta", "sd_g"]
    assert names["one coefficient"] == ["beta", "sd_g", "sigma"] and names["dispersion"] == ["beta", "sd_g", "phi"]
    assert names["structured"] == ["beta", "sd_t", "rho_t", "sigma"]


def test_conflict_strength_and_peace() -> None:
    """y ~ N(mu, 1) with 20 values at 0: a prior far off, one that says more than the data, one that says nothing."""
    data = {"y": RNG.normal(size=20), "se": np.ones(20)}
    for prior, wanted in ((Normal(4.0, 0.5), CONFLICT), (Normal(0.0, 0.02), STRONG), (Normal(0.0, 50.0), FINE)):
        fit = bayou.fit("measured(y, se) ~ 1", data, priors={"beta": prior}, seed=1, draws=4000)
        found = fit.sensitivity()
        assert list(found.table["diagnosis"]) == [wanted]
        assert found.ok == (wanted == FINE)
        assert ("beta[Intercept]" in found.sentences[0]) == (wanted != FINE)


@pytest.mark.parametrize("prior", [Normal(4.0, 0.5), Normal(1.0, 0.3)])
def test_the_size_of_the_change_is_that_of_the_closed_form(prior: Normal) -> None:
    """Against the posteriors under the prior's powers: both are normal, and so is their distance."""
    from scipy.stats import norm

    y = RNG.normal(size=20)
    fit = bayou.fit("measured(y, se) ~ 1", {"y": y, "se": np.ones(20)}, priors={"beta": prior}, seed=1, draws=10_000)
    found, draws = float(fit.sensitivity().table["prior"].iloc[0]), fit.result.draws["beta"]
    m, s = float(np.ravel(prior.mean)[0]), float(np.ravel(prior.sd)[0])

    def moments(alpha: float) -> tuple[float, float]:
        precision = 20.0 + alpha / s**2
        return (20.0 * y.mean() + alpha * m / s**2) / precision, precision**-0.5

    def distance(alpha: float) -> float:
        """Cumulative Jensen-Shannon distance, as Kallioinen et al. (2024) define it."""
        (a, b), (c, d) = moments(1.0), moments(alpha)
        x = np.linspace(draws.min(), draws.max(), 40_001)  # the distance depends on where the draws end

        def one_way(P: np.ndarray, Q: np.ndarray) -> float:
            ratio = np.where(P > 0.0, P * np.log2(np.where(P > 0.0, 2.0 * P / (P + Q), 1.0)), 0.0)
            return float(np.sum(ratio) * (x[1] - x[0]) + 0.5 / np.log(2.0) * np.sum(Q - P) * (x[1] - x[0]))

        def both(P: np.ndarray, Q: np.ndarray) -> float:
            return np.sqrt(max((one_way(P, Q) + one_way(Q, P)) / (np.sum(P + Q) * (x[1] - x[0])), 0.0))

        P, Q = norm.cdf(x, a, b), norm.cdf(x, c, d)
        return max(both(P, Q), both(1.0 - P, 1.0 - Q))

    # the slope in log2 of the power, from both sides
    wanted = (distance(0.99) + distance(1.01)) / (np.log2(1.01) - np.log2(0.99))
    assert found == pytest.approx(wanted, rel=0.05)


def test_only_what_is_asked_for_is_scaled() -> None:
    fit = bayou.fit("z ~ x + (1 | g)", DATA, priors={"beta": Normal(1.0, 0.1), "sd": HalfNormal(1.0)}, seed=1)
    beta, sd = fit.sensitivity("beta").table["prior"], fit.sensitivity(["sd_g"]).table["prior"]
    assert beta["beta[x]"] > 0.3 > 10.0 * sd["beta[x]"]
    assert "the priors of beta;" in str(fit.sensitivity("beta"))
    with pytest.raises(DataError, match="'sd_h' is no part.*beta, sd_g, sigma"):
        fit.sensitivity("sd_h")
    with pytest.raises(DataError, match="an empty list"):
        fit.sensitivity([])


def test_flat_priors_move_nothing_and_are_named() -> None:
    fit = bayou.fit("z ~ x + (1 | g)", DATA, priors={"beta": Flat()}, seed=1)
    found = fit.sensitivity("beta")
    assert (found.table["prior"] == 0.0).all() and "Flat, and without effect: beta" in str(found)
    assert found.table["likelihood"].max() > 0.05


@pytest.mark.parametrize("engine", ["gibbs", "inla"])
def test_samplers_and_approximations_agree(engine: str) -> None:
    model = bayou.Model("z ~ x + (1 | g)", DATA, priors={"sd": HalfNormal(0.3), "beta": Normal(0.0, 0.3)})
    table = model.fit(engine, seed=1).sensitivity().table
    reference = model.fit("metropolis", seed=2, draws=5000).sensitivity().table
    np.testing.assert_allclose(table["prior"], reference["prior"], atol=0.03, rtol=0.25)
    np.testing.assert_allclose(table["likelihood"], reference["likelihood"], atol=0.05, rtol=0.3)
