"""Marginal densities against SciPy's distributions, mixtures against their definition, files there and back."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, ndtr

from bayou.errors import BayouError, Unsupported
from bayou.posterior import Approximation, Marginal, Mixture, Scores
from bayou.posterior.approximation import pack_approximation, unpack_approximation

CHANCES = np.array([0.001, 0.025, 0.25, 0.5, 0.75, 0.975, 0.999])


def agrees(one, exact, tolerance):
    assert one.mean == pytest.approx(exact.mean(), abs=tolerance * exact.std())
    assert one.sd == pytest.approx(exact.std(), rel=tolerance)
    # a quantile is as far off as the distribution function over the density there
    at = exact.ppf(CHANCES)
    assert np.abs(one.cumulative(at) - CHANCES).max() < tolerance
    assert np.abs(exact.cdf(one.quantile(CHANCES)) - CHANCES).max() < tolerance
    assert np.abs(one.density(at) - exact.pdf(at)).max() < tolerance * exact.pdf(at).max() * 3


def test_a_normal_density_is_exact_from_seven_points():
    z = np.linspace(-3.0, 3.0, 7)
    agrees(Marginal(2.0 + 0.5 * z, -0.5 * z**2 + 17.0), stats.norm(2.0, 0.5), 1e-7)
    agrees(Marginal.normal(2.0, 0.5), stats.norm(2.0, 0.5), 1e-7)


def test_uneven_points_and_a_density_that_is_no_polynomial():
    exact = stats.t(5, loc=1.0, scale=2.0)
    x = 1.0 + 2.0 * np.sinh(np.linspace(-5.0, 5.0, 61))
    one = Marginal(x, exact.logpdf(x))
    agrees(one, exact, 2e-3)  # the tail beyond the outermost point, 74 scales out, is cut
    assert one.expected(lambda v: (v > 1.0).astype(float)) == pytest.approx(0.5, abs=5e-3)


@pytest.mark.parametrize(
    ("scale", "exact", "t", "value", "slope"),
    [
        ("log", stats.lognorm(0.6, scale=0.8), np.linspace(-4.0, 3.5, 41), np.exp, np.exp),
        ("log", stats.gamma(2.5, scale=0.4), np.linspace(-8.0, 3.0, 61), np.exp, np.exp),
        ("logit", stats.beta(2.0, 5.0), np.linspace(-9.0, 5.0, 61), expit, lambda t: expit(t) * expit(-t)),
        (
            "atanh",
            stats.beta(3.0, 2.0, loc=-1.0, scale=2.0),
            np.linspace(-5.0, 5.0, 81),
            np.tanh,
            lambda t: np.cosh(t) ** -2.0,
        ),
    ],
)
def test_internal_scales_are_carried_back(scale, exact, t, value, slope):
    agrees(Marginal(t, exact.logpdf(value(t)) + np.log(slope(t)), scale), exact, 2e-5)


def test_outside_of_its_range_a_number_has_no_density():
    one = Marginal.normal(0.0, 0.3, "log")
    assert one.density(np.array([-1.0, 0.0])).tolist() == [0.0, 0.0]
    assert one.cumulative(-1.0) == 0.0 and one.cumulative(0.0) == 0.0 and one.cumulative(np.inf) == 1.0


def test_points_of_no_probability_are_left_out_and_a_border_ends_the_density():
    x = np.linspace(0.0, 1.0, 21)
    one = Marginal(np.append(-0.1, x), np.append(-np.inf, np.zeros(21)))
    agrees(one, stats.uniform(), 1e-9)


def test_draws_follow_the_density():
    exact = stats.gamma(2.5, scale=0.4)
    t = np.linspace(-8.0, 3.0, 61)
    drawn = Marginal(t, exact.logpdf(np.exp(t)) + t, "log").draw(np.random.default_rng(1), 4000)
    assert stats.kstest(drawn, exact.cdf).pvalue > 0.001


def test_densities_of_draws_have_the_moments_of_the_draws():
    rng = np.random.default_rng(4)
    draws = rng.gamma(3.0, size=20_000)
    one = Marginal.of_draws(draws, scale="log")
    assert (one.mean, one.sd) == pytest.approx((draws.mean(), draws.std(ddof=1)), rel=1e-12)
    # the kernel smooths over a tenth of the spread: quantiles move by some hundredths of a standard deviation
    assert np.abs(one.quantile([0.025, 0.5, 0.975]) - np.quantile(draws, [0.025, 0.5, 0.975])).max() < 0.05 * one.sd
    assert np.abs(one.expected(lambda v: v) - draws.mean()) < 0.005 * one.sd


def test_weights_of_draws_count():
    rng = np.random.default_rng(5)
    draws = rng.normal(size=40_000)
    shifted = np.exp(0.5 * draws)  # tilts N(0, 1) to N(0.5, 1)
    one = Marginal.of_draws(draws, shifted)
    w = shifted / shifted.sum()
    assert one.mean == pytest.approx(float(w @ draws))
    error = np.sqrt(np.square(w).sum())
    assert abs(one.mean - 0.5) < 4 * error and abs(one.sd - 1.0) < 4 * error
    assert abs(float(one.quantile(0.5)) - 0.5) < 0.05


@pytest.mark.parametrize(
    ("points", "height", "scale"),
    [
        ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0], "identity"),
        ([0.0, 1.0, 1.0, 2.0], np.zeros(4), "identity"),
        (np.arange(5.0), [0.0, np.nan, 0.0, 0.0, 0.0], "identity"),
        (np.arange(5.0), np.zeros(4), "identity"),
        (np.arange(5.0), np.zeros(5), "probit"),
    ],
)
def test_what_is_no_density_is_refused(points, height, scale):
    with pytest.raises(BayouError):
        Marginal(points, height, scale)


def test_quantiles_are_asked_for_by_probabilities():
    with pytest.raises(BayouError, match="between 0 and 1"):
        Marginal.normal(0.0, 1.0).quantile(1.5)
    with pytest.raises(BayouError, match="differ"):
        Marginal.of_draws(np.ones(100))


# ---- mixtures ------------------------------------------------------------------------------


@pytest.fixture
def mixture(rng):
    return Mixture(rng.random(7), rng.normal(size=(7, 4, 3)), 0.02 + rng.random((7, 4, 3)))


def test_mixture_moments_and_quantiles_by_their_definition(mixture):
    w = mixture.weights / mixture.weights.sum()
    mean = np.einsum("k,kij->ij", w, mixture.means)
    second = np.einsum("k,kij->ij", w, mixture.means**2 + mixture.sds**2)
    np.testing.assert_allclose(mixture.mean, mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mixture.sd, np.sqrt(second - mean**2), rtol=1e-10)
    for chance in (1e-4, 0.025, 0.5, 0.9, 0.975):
        under = np.einsum("k,kij->ij", w, ndtr((mixture.quantile(chance) - mixture.means) / mixture.sds))
        np.testing.assert_allclose(under, chance, rtol=1e-9)


def test_one_number_of_a_mixture_as_a_marginal(mixture):
    one = mixture.marginal(2, 1)
    assert (one.mean, one.sd) == pytest.approx((mixture.mean[2, 1], mixture.sd[2, 1]), rel=1e-12)
    for chance in (0.025, 0.5, 0.975):
        assert float(one.cumulative(mixture.quantile(chance)[2, 1])) == pytest.approx(chance, abs=1e-5)


def test_parts_far_apart_and_of_no_weight():
    two = Mixture(np.array([0.7, 0.3, 0.0]), np.array([[0.0], [1000.0], [5.0]]), np.array([[1.0], [1.0], [1.0]]))
    assert two.quantile(0.35)[0] == pytest.approx(0.0, abs=1e-8)
    assert two.quantile(0.85)[0] == pytest.approx(1000.0, abs=1e-6)
    assert np.isfinite(two.quantile(0.7)[0])


def test_mixtures_of_other_shapes_are_refused():
    with pytest.raises(BayouError, match="2 parts"):
        Mixture(np.ones(2), np.zeros((3, 4)), np.ones((3, 4)))


# ---- the container -------------------------------------------------------------------------


def approximation(**fields):
    rng = np.random.default_rng(2)
    own = {
        "method": "gaussian, 3 nodes",
        "marginals": {
            "beta[Intercept]": Marginal.normal(1.0, 0.2),
            "sd_t": Marginal(np.linspace(-2, 2, 9), -(np.linspace(-2, 2, 9) ** 2), "log", (1.1, 0.4)),
        },
        "effects": {"f_t": Mixture(np.ones(3), rng.normal(size=(3, 5)), np.ones((3, 5)))},
        "thetas": rng.normal(size=(3, 1)),
        "log_weights": np.log([0.2, 0.5, 0.3]),
        "log_marginal": -12.25,
        "log_marginal_error": 0.01,
        "scores": Scores(30.0, 31.0, 2.0, 2.5, np.array([0.1, 0.2]), np.array([0.5, np.nan])),
        "messages": ("three nodes",),
        "check": {"shift": np.float64(0.01), "effective_size": 900.0, "k_hat": 0.2, "ok": True, "corrected": False},
    }
    return Approximation(**(own | fields))


def test_what_is_costly_is_made_once_and_only_when_read():
    made = []

    def mixture():
        made.append("effects")
        return Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))

    def scores():
        made.append("scores")
        return Scores(1.0, 2.0, 3.0, 4.0, np.zeros(1), np.zeros(1))

    one = approximation(effects={"f_t": mixture}, scores=scores)
    assert not made and one.effect("b_g") is None and one.nodes == 3
    assert (one.dic, one.waic) == (1.0, 2.0) and one.effect("f_t") is one.effect("f_t")
    assert sorted(made) == ["effects", "scores"]


def test_without_scores_it_says_so():
    one = approximation(scores=None)
    for name in ("dic", "waic", "cpo", "pit"):
        with pytest.raises(Unsupported, match=r"gaussian, 3 nodes.*fit\.loo"):
            getattr(one, name)


def test_nodes_need_a_weight_each():
    with pytest.raises(BayouError, match="log weight"):
        approximation(log_weights=np.zeros(2))


@pytest.mark.parametrize("scores", [True, False])
def test_there_and_back(scores):
    one = approximation() if scores else approximation(scores=None, effects={}, thetas=np.zeros((3, 0)))
    facts, arrays = pack_approximation(one)
    assert all(v.ndim == 1 and v.size for v in arrays.values())
    two = unpack_approximation(facts, arrays)
    for name, marginal in one.marginals.items():
        again = two.marginals[name]
        assert (again.mean, again.sd, again.scale) == (marginal.mean, marginal.sd, marginal.scale)
        np.testing.assert_array_equal(again.quantile(CHANCES), marginal.quantile(CHANCES))
    assert (two.method, two.log_marginal, two.messages, dict(two.check)) == (
        one.method,
        one.log_marginal,
        one.messages,
        dict(one.check),
    )
    assert two.thetas.shape == one.thetas.shape and (two.scores is None) == (not scores)
    if scores:
        np.testing.assert_array_equal(two.pit, one.pit)
        np.testing.assert_array_equal(two.effect("f_t").quantile(0.9), one.effect("f_t").quantile(0.9))
