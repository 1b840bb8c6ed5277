"""Densities integrate to one, agree with their draws, and with the kernels' table."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

import bayou.priors as bp
from bayou.errors import ImproperPosterior, PriorError
from bayou.priors.covariance import log_sd_jacobian, split
from bayou.priors.scalar import from_code
from bayou.priors.table import prior_log_density

REFERENCES = {
    "Normal": (bp.Normal(1.0, 2.0), stats.norm(1, 2)),
    "StudentT": (bp.StudentT(4, 1.0, 2.0), stats.t(4, 1, 2)),
    "HalfNormal": (bp.HalfNormal(1.5), stats.halfnorm(scale=1.5)),
    "HalfT": (bp.HalfT(3, 2.0), stats.foldnorm),
    "HalfCauchy": (bp.HalfCauchy(5), stats.halfcauchy(scale=5)),
    "Exponential": (bp.Exponential(0.7), stats.expon(scale=1 / 0.7)),
    "PC": (bp.PC(1, 0.01), stats.expon(scale=1 / -math.log(0.01))),
    "Uniform": (bp.Uniform(0.5, 3), stats.uniform(0.5, 2.5)),
    "Gamma": (bp.Gamma(2, 3), stats.gamma(2, scale=1 / 3)),
    "InverseGamma": (bp.InverseGamma(3, 2), stats.invgamma(3, scale=2)),
}
SCALES = [
    bp.HalfNormal(1.5),
    bp.HalfT(3, 2.0),
    bp.HalfCauchy(0.8),
    bp.Exponential(0.7),
    bp.PC(1, 0.01),
    bp.Uniform(0.2, 3),
    bp.Gamma(2, 3),
    bp.InverseGamma(3, 2),
    bp.OfVariance(bp.HalfT(5, 1.0)),
    bp.OfVariance(bp.Uniform(0.1, 4)),
    bp.OfPrecision(bp.Exponential(0.7)),
    bp.OfPrecision(bp.HalfNormal(2)),
]
IMPROPER = [bp.Flat(), bp.FlatSD(), bp.Jeffreys(), bp.OfVariance(bp.Flat())]


@pytest.mark.parametrize("name", REFERENCES)
def test_density_and_draws_match_scipy(name):
    prior, reference = REFERENCES[name]
    x = np.linspace(0.6, 2.9, 7)
    if name == "HalfT":
        expected, cdf = (
            math.log(2) + stats.t(3, scale=2).logpdf(x),
            lambda q: 2 * stats.t(3, scale=2).cdf(q) - 1,
        )
    else:
        expected, cdf = reference.logpdf(x), reference.cdf
    np.testing.assert_allclose(prior.log_density(x), expected, rtol=1e-12)
    draws = prior.draw(np.random.default_rng(1), 4000)
    assert draws.shape == (4000,)
    assert stats.kstest(draws, cdf).pvalue > 1e-3
    assert prior.draw(np.random.default_rng(1)).shape == ()


@pytest.mark.parametrize("prior", SCALES, ids=str)
def test_density_of_the_sd_is_normalised_and_matches_draws(prior):
    def density(s):
        return float(np.exp(prior.sd_log_density(s)))

    mass = integrate.quad(density, 0, 1, limit=200)[0] + integrate.quad(density, 1, np.inf, limit=200)[0]
    assert mass == pytest.approx(1.0, abs=1e-6)
    draws = prior.sd_draw(np.random.default_rng(2), 4000)
    for q in (0.5, 1.0, 1.5):
        assert np.mean(draws < q) == pytest.approx(integrate.quad(density, 0, q, limit=200)[0], abs=0.03)
    assert prior.sd_log_density(-1.0) == -np.inf
    assert prior.sd_log_density(0.0) == -np.inf


@pytest.mark.parametrize("prior", [*SCALES, *IMPROPER], ids=str)
def test_kernel_agrees_with_the_class_up_to_a_constant(prior):
    s = np.linspace(0.35, 1.9, 9)
    kernel = np.array([prior_log_density(prior.code, *prior.parameters, v) for v in s])
    gap = kernel - prior.sd_log_density(s)
    np.testing.assert_allclose(gap, gap[0], atol=1e-12)
    again = from_code(prior.code, prior.parameters)
    np.testing.assert_allclose(again.sd_log_density(s), prior.sd_log_density(s), atol=1e-12)
    if type(prior) not in (bp.Flat, bp.FlatSD):  # a flat coefficient is flat below zero too
        assert prior_log_density(prior.code, *prior.parameters, -0.5) == -np.inf


@pytest.mark.parametrize("prior", [bp.Normal(1, 2), bp.StudentT(4, 1, 2), bp.Uniform(-20, 20), bp.Flat()], ids=str)
def test_kernel_agrees_for_coefficients(prior):
    x = np.linspace(-3, 4, 9)
    kernel = np.array([prior_log_density(prior.code, *prior.parameters, v) for v in x])
    gap = kernel - prior.log_density(x)
    np.testing.assert_allclose(gap, gap[0], atol=1e-12)
    if isinstance(prior, bp.Uniform):
        assert prior_log_density(prior.code, *prior.parameters, 20.1) == -np.inf


def test_improper_priors_say_so():
    for prior in IMPROPER:
        assert not prior.proper
        with pytest.raises(PriorError, match="improper"):
            prior.draw(np.random.default_rng(0))
    assert all(prior.proper for prior in SCALES)
    with pytest.raises(ImproperPosterior, match="flat density of a precision"):
        bp.OfPrecision(bp.Flat())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bp.Normal(0, -1), "sd must be above 0"),
        (lambda: bp.Normal(float("nan"), 1), "mean must be finite"),
        (lambda: bp.Normal(0), "give one of"),
        (lambda: bp.Normal(0, 1, cov=[[1]]), "give one of"),
        (lambda: bp.Normal([0, 0], cov=[[1, 2], [2, 1]]), "positive definite"),
        (lambda: bp.Normal([0, 0], precision=[[1, 2], [2, 1]]), "negative eigenvalue"),
        (lambda: bp.Normal([0, 0, 0], [1, 1]), "same length"),
        (lambda: bp.Normal([0, 0], cov=[[1, 0.5], [0, 1]]), "symmetric"),
        (lambda: bp.StudentT(0, 0, 1), "df must be"),
        (lambda: bp.HalfT(3, float("inf")), "scale must be"),
        (lambda: bp.HalfNormal("a"), "sd must be"),
        (lambda: bp.Exponential(0), "rate must be"),
        (lambda: bp.PC(1, 1.5), "below 1"),
        (lambda: bp.Uniform(3, 3), "below upper"),
        (lambda: bp.Uniform(0, float("inf")), "finite"),
        (lambda: bp.Gamma(0, 1), "shape must be"),
        (lambda: bp.InverseGamma(1, -1), "scale must be"),
        (lambda: bp.InverseWishart(1, np.eye(2)), "df must be above 1"),
        (lambda: bp.InverseWishart(3, [[1, 2], [2, 1]]), "positive definite"),
        (lambda: bp.InverseWishart(3, [[1, 2]]), "square"),
        (lambda: bp.Wishart(3, -1.0), "above 0"),
        (lambda: bp.HuangWand(2, [1, 0]), "scales must be"),
        (lambda: bp.LKJ(0), "eta must be"),
        (lambda: bp.OfVariance(bp.PC(1, 0.1)), "it takes a density"),
    ],
)
def test_impossible_numbers_are_refused(make, words):
    with pytest.raises(PriorError, match=words):
        make()


def test_text_and_equality():
    assert str(bp.HalfT(3, 140.83)) == "HalfT(3, 140.8)"
    assert str(bp.Jeffreys()) == "Jeffreys()"
    assert str(bp.OfVariance(bp.HalfT(3, 1))) == "OfVariance(HalfT(3, 1))"
    assert str(bp.InverseWishart(4, np.eye(2))) == "InverseWishart(4, [[1, 0], [0, 1]])"
    assert bp.Normal([0, 1], [1, 2]) == bp.Normal([0, 1], [1, 2])
    assert bp.Normal(0, 1) != bp.Normal(0, 2)
    assert bp.HalfT(1, 2) != bp.HalfCauchy(2)
    assert len({bp.HalfT(3, 1), bp.HalfT(3, 1)}) == 1
    assert bp.OfVariance(bp.Flat()) == bp.OfVariance(bp.Flat())


def test_joint_normal():
    cov = np.array([[4.0, 1.0], [1.0, 9.0]])
    joint = bp.Normal([1, 2], cov=cov)
    x = np.array([[0.3, -1.0], [2.0, 5.0]])
    np.testing.assert_allclose(joint.log_density(x), stats.multivariate_normal([1, 2], cov).logpdf(x))
    np.testing.assert_allclose(np.linalg.inv(joint.moments(2)[1]), cov)
    draws = joint.draw(np.random.default_rng(3), 20_000)
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.3)
    by_precision = bp.Normal([1, 2], precision=np.linalg.inv(cov))
    np.testing.assert_allclose(by_precision.log_density(x), joint.log_density(x))
    half_flat = bp.Normal([0, 0], precision=[[1.0, -1.0], [-1.0, 1.0]])
    assert not half_flat.proper
    np.testing.assert_allclose(half_flat.null_space() / half_flat.null_space()[0], [[1.0], [1.0]])
    vector = bp.Normal(0, [1, 2, 3])
    assert vector.size == 3
    np.testing.assert_allclose(vector.log_density(np.ones(3)), stats.norm(0, [1, 2, 3]).logpdf(1).sum())


def test_wishart_family_matches_scipy():
    scale = np.array([[2.0, 0.3], [0.3, 1.0]])
    x = np.array([[1.5, -0.2], [-0.2, 0.7]])
    assert bp.InverseWishart(5, scale).log_density(x) == pytest.approx(stats.invwishart(5, scale).logpdf(x))
    assert bp.Wishart(5, scale).log_density(x) == pytest.approx(stats.wishart(5, scale).logpdf(x))
    assert bp.Wishart(5, scale).at(2).log_density(x) == pytest.approx(
        stats.invwishart(5, np.linalg.inv(scale)).logpdf(x)
    )
    draws = bp.InverseWishart(8, scale).draw(np.random.default_rng(4), 20_000)
    np.testing.assert_allclose(draws.mean(axis=0), scale / (8 - 2 - 1), atol=0.02)
    draws = bp.Wishart(8, scale).draw(np.random.default_rng(4), 20_000)
    np.testing.assert_allclose(draws.mean(axis=0), 8 * scale, rtol=0.03, atol=0.1)
    assert bp.Wishart(8, 1.0).draw(np.random.default_rng(4)).shape == (1, 1)
    with pytest.raises(PriorError, match="has 3 coefficients"):
        bp.InverseWishart(5, scale).at(3)


def _integrate_over_covariances(prior, points=81, low=-7.0, high=7.0):
    """Integrate a 2 x 2 density over log sds and atanh of the correlation."""
    logs = np.linspace(low, high, points)
    fisher = np.linspace(-9, 9, points)
    a, b, z = np.meshgrid(logs, logs, fisher, indexing="ij")
    s1, s2, r = np.exp(a), np.exp(b), np.tanh(z)
    sigma = np.stack([np.stack([s1**2, r * s1 * s2], -1), np.stack([r * s1 * s2, s2**2], -1)], -2)
    # d Sigma / d (sd, cor), then d sd / d log sd = sd and d r / d z = 1 − r².
    sds, _ = split(sigma)
    log_jacobian = log_sd_jacobian(sds) + a + b - 2 * np.log(np.cosh(z))
    step = (logs[1] - logs[0]) ** 2 * (fisher[1] - fisher[0])
    return float(np.sum(np.exp(prior(sigma) + log_jacobian)) * step)


@pytest.mark.parametrize(
    "prior",
    [bp.HuangWand(2, [0.8, 1.5]), bp.HuangWand(4, [1.0, 1.0]), bp.InverseWishart(6, np.eye(2))],
    ids=str,
)
def test_matrix_densities_integrate_to_one(prior):
    low, high = (-12.0, 9.0) if isinstance(prior, bp.HuangWand) else (-4.0, 5.0)
    assert _integrate_over_covariances(prior.log_density, low=low, high=high) == pytest.approx(1.0, abs=0.01)


def test_jacobian_by_finite_differences():
    theta = np.array([0.7, 1.9, 1.2, 0.3, -0.4, 0.2])  # three sds, three correlations

    def lower(t):
        cor = np.eye(3)
        cor[[1, 2, 2], [0, 0, 1]] = cor[[0, 0, 1], [1, 2, 2]] = t[3:]
        return (cor * np.outer(t[:3], t[:3]))[np.tril_indices(3)]

    steps = 1e-6 * np.eye(6)
    matrix = np.array([(lower(theta + h) - lower(theta - h)) / 2e-6 for h in steps])
    assert log_sd_jacobian(theta[:3]) == pytest.approx(np.linalg.slogdet(matrix)[1], abs=1e-7)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_huang_wand_density_against_the_hierarchy(p):
    """Averaging the conditional inverse-Wishart over simulated a gives the closed-form density."""
    rng = np.random.default_rng(5)
    df, scales = 2.0, np.array([0.8, 1.5, 1.1])[:p]
    prior = bp.HuangWand(df, scales)
    inverse_a = rng.gamma(0.5, scales**2, (200_000, p))  # rate 1 / A²
    for sigma in (np.diag([1.0, 2.0, 0.5])[:p, :p], np.full((p, p), 0.2) + np.eye(p)):
        precision = np.linalg.inv(sigma)
        half = (df + p - 1) / 2
        reference = stats.invwishart(df + p - 1, 2 * df * np.eye(p)).logpdf(sigma)
        logs = reference + half * np.log(inverse_a).sum(axis=1) - df * (inverse_a - 1.0) @ np.diag(precision)
        assert np.exp(logs).mean() == pytest.approx(float(np.exp(prior.log_density(sigma))), rel=0.03)
    draws = prior.draw(rng, 20_000)
    sds, cor = split(draws)
    for k in range(p):
        assert stats.kstest(sds[:4000, k], lambda q, k=k: 2 * stats.t(df, scale=scales[k]).cdf(q) - 1).pvalue > 1e-3
    if p > 1:
        assert stats.kstest(cor[:4000, 0, 1], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    else:
        s = np.array([0.3, 1.0, 4.0])
        implied = prior.log_density((s**2)[:, None, None]) + np.log(2 * s)
        np.testing.assert_allclose(implied, bp.HalfT(df, scales[0]).log_density(s), rtol=1e-10)


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.5])
def test_lkj_is_normalised_and_drawn(eta):
    prior = bp.LKJ(eta)

    def density(r):
        return float(np.exp(prior.log_density(np.array([[1, r], [r, 1.0]]))))

    assert integrate.quad(density, -1, 1)[0] == pytest.approx(1.0, abs=1e-4)
    rng = np.random.default_rng(6)
    draws = np.array([prior.draw_matrix(rng, 3) for _ in range(4000)])
    assert np.linalg.eigvalsh(draws).min() > 0
    # Each correlation of a 3 x 3 LKJ is a beta(eta + 1/2, eta + 1/2) on (−1, 1), also the last drawn.
    for i, j in ((0, 1), (1, 2)):
        marginal = stats.beta(eta + 0.5, eta + 0.5, loc=-1, scale=2)
        assert stats.kstest(draws[:, i, j], marginal.cdf).pvalue > 1e-3
    # Importance identity: the mean of 1 / density over draws is the volume π²/2 of 3 x 3 correlations.
    if eta < 2:
        assert np.exp(-prior.log_density(draws)).mean() == pytest.approx(math.pi**2 / 2, rel=0.05)


def test_collection():
    priors = bp.Priors.of({"beta[x]": bp.Normal(0, 1), "sd": bp.HalfT(3, 1)})
    assert list(priors) == ["beta[x]", "sd"]
    assert bp.Priors.of(priors) is priors
    assert str(priors) == "beta[x] ~ Normal(0, 1)\nsd ~ HalfT(3, 1)"
    assert str(bp.Priors.of(None)) == "the default priors"
    assert dict(bp.Priors(beta=bp.Flat())) == {"beta": bp.Flat()}
    with pytest.raises(PriorError, match="prior of 'beta' must be"):
        bp.Priors(beta=3)
    with pytest.raises(PriorError, match="priors must be"):
        bp.Priors.of([1])
