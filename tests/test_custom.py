"""Families of the user's own: densities, derivatives, what is refused, and posteriors that are those of known families."""

import math

import numpy as np
import pytest
from scipy import special, stats

import bayou
from agreement import same
from bayou import families
from bayou.errors import DataError, Unsupported
from bayou.families import Custom, log_gamma
from bayou.families.custom import verify
from bayou.joint import joint_density
from bayou.model import Model

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


def normal(y, eta, sigma):
    return -0.5 * ((y - eta) / sigma) ** 2 - np.log(sigma) - LOG_ROOT_TWO_PI


def normal_gradient(y, eta, sigma):
    z = (y - eta) / sigma
    return z / sigma, (z * z - 1.0) / sigma


def poisson(y, eta):
    return y * eta - np.exp(eta) - log_gamma(y + 1.0)


def negative_binomial(y, eta, phi):
    constant = log_gamma(y + phi) - log_gamma(phi) - log_gamma(y + 1.0)
    return constant + phi * np.log(phi) + y * eta - (y + phi) * np.log(phi + np.exp(eta))


def student(y, eta, sigma):
    return log_gamma(2.5) - log_gamma(2.0) - 0.5 * np.log(4 * np.pi) - np.log(sigma) - 2.5 * np.log1p(((y - eta) / sigma) ** 2 / 4)  # fmt: skip


def beta(y, eta, phi):
    mu = 1.0 / (1.0 + np.exp(-eta))
    a, b = mu * phi, (1.0 - mu) * phi
    return log_gamma(phi) - log_gamma(a) - log_gamma(b) + (a - 1.0) * np.log(y) + (b - 1.0) * np.log(1.0 - y)


def laplace(y, eta):
    return -abs(y - eta) - math.log(2.0)


def laplace_gradient(y, eta):
    return np.sign(y - eta)


KNOWN = {
    "gaussian": (Custom(normal, dispersion="sigma", name="mine"), "y"),
    "gaussian by hand": (Custom(normal, gradient=normal_gradient, dispersion="sigma", name="mine"), "y"),
    "poisson": (Custom(poisson, link="log", name="mine"), "count"),
    "negative_binomial": (Custom(negative_binomial, dispersion="phi", link="log", name="mine"), "count"),
}


def table():
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(12), 6), rng.normal(size=72)
    level = rng.normal(size=12)[g]
    return {
        "y": level + x + rng.normal(size=72),
        "count": rng.negative_binomial(3, 3 / (3 + np.exp(0.5 + 0.4 * x + 0.5 * level))).astype(float),
        "x": x,
        "g": g,
        "w": 1.0 + np.arange(72) % 3,
    }


def pair(name, **settings):
    """The same model by a known family and by one's own."""
    own, y = KNOWN[name]
    known = Model(f"{y} ~ x + (1 | g)", table(), name.split()[0], {"sd": bayou.priors.HalfNormal(1)}, **settings)
    return known, Model(f"{y} ~ x + (1 | g)", table(), own, known.priors, **settings)


# ---- densities --------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [1e-3, 0.5, 1.0, 3.0, 11.99, 12.0, 500.0, 1e6])
def test_log_gamma(x):
    assert log_gamma(x) == pytest.approx(special.gammaln(x), rel=1e-13, abs=1e-13)
    assert log_gamma(complex(x, 1e-20)).imag / 1e-20 == pytest.approx(special.digamma(x), rel=1e-12)


def test_methods_of_the_family():
    family = Custom(student, dispersion="sigma", name="student")
    y, eta, sigma = np.array([0.0, 1.0, 3.0]), np.array([[0.5], [2.0]]), 2.0
    np.testing.assert_allclose(family.log_density(y, eta, sigma), stats.t.logpdf((y - eta) / sigma, 4) - np.log(sigma))
    np.testing.assert_allclose(family.log_density(y, 0.5, sigma, weights=2.0), 2 * family.log_density(y, 0.5, sigma))
    z = (y - eta) / sigma
    np.testing.assert_allclose(family.gradient(y, eta, sigma), 5 * z / (4 + z * z) / sigma)
    np.testing.assert_allclose(
        family.curvature(y, eta, sigma), 5 * (4 - z * z) / (4 + z * z) ** 2 / sigma**2, rtol=1e-6
    )
    assert str(family) == "student(link = identity)"
    assert family == Custom(student, dispersion="sigma", name="student")
    with pytest.raises(Unsupported, match="how to draw outcomes; give Custom a function sample="):
        family.sample(np.random.default_rng(1), 0.0, 1.0)
    with pytest.raises(Unsupported, match="its variance"):
        family.variance(1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, {}) for name in KNOWN), ("poisson", {"weights": "w"}), ("negative_binomial", {"weights": "w"})],
)
def test_the_joint_density_is_that_of_the_known_family(name, settings):
    """Prior weights multiply the log density; of the known Gaussian alone they divide the variance."""
    known, own = (joint_density(model, "whitened") for model in pair(name, **settings))
    rng = np.random.default_rng(2)
    for _ in range(3):
        q = 0.5 * rng.normal(size=known.size)
        (value, gradient), (other, slopes) = known.evaluate(q), own.evaluate(q)
        assert other == pytest.approx(value, rel=1e-10)
        np.testing.assert_allclose(slopes, gradient, rtol=1e-8, atol=1e-8)


def test_one_dispersion_per_level():
    known, own = (joint_density(model, "whitened") for model in pair("gaussian", sigma_by="g"))
    q = 0.3 * np.random.default_rng(3).normal(size=known.size)
    (value, gradient), (other, slopes) = known.evaluate(q), own.evaluate(q)
    assert other == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(slopes, gradient, rtol=1e-8, atol=1e-8)


# ---- posteriors -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian", "negative_binomial"])
def test_the_posterior_is_that_of_the_known_family(name):
    known, own = pair(name)
    settings = {"draws": 2000, "progress": False, "target_accept": 0.95}
    ours, theirs = own.fit("nuts", seed=1, **settings), known.fit("metropolis", seed=2, draws=8000, progress=False)
    for row, place in theirs.result.rows.items():
        same(np.asarray(ours.result.values(place)), np.asarray(theirs.result.values(place)), row, enough=400)


def test_shares_by_a_beta_distribution():
    """Predictions too: outcomes are drawn by the user's function."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    mu = special.expit(0.3 + 0.8 * x)
    data = {"share": rng.beta(8 * mu, 8 * (1 - mu)), "x": x}

    def sample(rng, eta, phi):
        mean = special.expit(eta)
        return rng.beta(mean * phi, (1 - mean) * phi)

    family = Custom(beta, dispersion="phi", link="logit", name="beta_share", sample=sample)
    fit = bayou.fit("share ~ x", data, family=family, engine="nuts", seed=1, progress=False)
    assert fit.verdict.ok
    mean, sd = fit.fixed_effects.loc["x", "mean"], fit.fixed_effects.loc["x", "sd"]
    assert abs(mean - 0.8) < 4 * sd < 0.4
    assert abs(fit.summary().loc["phi", "mean"] - 8) < 4 * fit.summary().loc["phi", "sd"]
    outcomes = fit.predict({"x": np.array([0.0])}, kind="outcome", seed=1)
    assert 0 < outcomes["lower"].iloc[0] < 0.57 < outcomes["upper"].iloc[0] < 1


def test_by_hand_where_there_is_no_complex_step():
    rng = np.random.default_rng(6)
    x = rng.normal(size=300)
    data = {"y": 1.0 + 2.0 * x + rng.laplace(size=300), "x": x}
    with pytest.raises(DataError, match=r"derivative by complex step says.*without abs.*or give gradient="):
        bayou.fit("y ~ x", data, family=Custom(laplace), engine="nuts", seed=1)
    fit = bayou.fit("y ~ x", data, family=Custom(laplace, gradient=laplace_gradient), engine="nuts", seed=1)
    estimate = fit.fixed_effects.loc["x"]
    assert abs(estimate["mean"] - 2) < 4 * estimate["sd"] < 0.4


# ---- refusals ---------------------------------------------------------------------------------


def test_a_wrong_gradient_is_found():
    def wrong(y, eta, sigma):
        z = (y - eta) / sigma
        return z / sigma, 1.1 * (z * z - 1.0) / sigma

    family = Custom(normal, gradient=wrong, dispersion="sigma", name="mine")
    with pytest.raises(
        DataError, match=r"per unit of sigma at y = .*the gradient that you gave says.*Correct gradient="
    ):
        bayou.fit("y ~ x", table(), family=family, engine="nuts", seed=1)


@pytest.mark.parametrize("right", [family for family, _ in KNOWN.values()], ids=list(KNOWN))
def test_right_ones_pass(right):
    eta = np.array([-2.0, 0.3, 1.5])[:, None, None]
    verify(right, np.array([0.0, 1.0, 7.0])[:, None], eta, np.array([0.2, 1.0, 30.0]))


@pytest.mark.parametrize("engine", ["gibbs", "metropolis", "ml", "reml", "laplace", "quadrature", "pql", "inla"])
def test_other_engines_say_which_engine_takes_it(engine):
    with pytest.raises(Unsupported, match=r"'mine' is your own. Use engine='nuts'"):
        pair("gaussian")[1].fit(engine)


def test_whoever_asks_for_the_code_is_told():
    with pytest.raises(Unsupported, match="Use engine='nuts'"):
        pair("poisson")[1].family.code  # noqa: B018
    assert not families.Gaussian().own


def test_a_file_holds_no_code(tmp_path):
    fit = pair("poisson")[1].fit("nuts", seed=1, draws=10, warmup=50, chains=1, progress=False)
    with pytest.raises(Unsupported, match="files hold no code.*to_netcdf"):
        fit.save(tmp_path / "fit.nc")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Custom(lambda y: y), r"function of \(y, eta\); it has 1 arguments"),
        (lambda: Custom(poisson, dispersion="sigma"), r"function of \(y, eta, sigma\); it has 2"),
        (lambda: Custom("poisson"), "it is a str"),
        (lambda: Custom(poisson, gradient=normal_gradient), "gradient must be a function of"),
        (lambda: Custom(poisson, dispersion="tau"), "sigma, phi, shape or None"),
        (lambda: Custom(poisson, name="gaussian"), "name of your own"),
        (lambda: Custom(poisson, link="cube"), "cube"),
        (lambda: Custom(poisson, sample=3), "sample must be a function"),
    ],
)
def test_arguments(make, said):
    with pytest.raises(Unsupported, match=said):
        make()


def test_what_cannot_be_compiled_is_told_in_words():
    def unknown(y, eta):
        return no_such_function(y, eta)  # noqa: F821

    with pytest.raises(Unsupported, match="'unknown' could not be compiled: .*no_such_function.*complex numbers"):
        bayou.Model("y ~ x", table(), family=Custom(unknown))


def test_impossible_outcomes_are_named():
    with pytest.raises(DataError, match="no finite log density at any eta that was tried: row 0 has 2"):
        bayou.Model("y ~ 1", {"y": [2.0, 0.5, 0.3]}, family=Custom(beta, dispersion="phi", link="logit", name="share"))
