"""Names to numbers: precedence, exact default precision, round trips, and the exact references' priors."""

import numpy as np
import pytest
from scipy import stats

import bayou.priors as bp
from bayou.binding import (
    bind,
    draw_beta,
    draw_dispersion,
    log_density_beta,
    log_density_dispersion,
)
from bayou.errors import ImproperPosterior, PriorError
from bayou.priors import codes
from standin_designs import design, grouping

RNG = np.random.default_rng(12)
N = 60
X = RNG.normal(2000.0, 5.0, N)
G = np.arange(N) % 12
Y = 3.0 + 0.2 * (X - 2000) + RNG.standard_normal(12)[G] + RNG.standard_normal(N)
S = np.std(Y, ddof=1)


def slope_design(blocks=None, **extra):
    return design(
        Y,
        {"Intercept": 1.0, "x": X},
        [grouping("g", G, {"Intercept": 1.0, "x": X - X.mean()}, blocks)],
        **extra,
    )


def same_numbers(one, two):
    for name in (
        "beta_mean",
        "beta_precision",
        "beta_codes",
        "beta_parameters",
        "beta_flat",
        "dispersion_parameters",
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert one.dispersion_code == two.dispersion_code
    assert one.lines == two.lines
    assert len(one.blocks) == len(two.blocks)
    for a, b in zip(one.blocks, two.blocks, strict=True):
        assert (a.grouping, a.columns, a.kind, a.df, a.lkj) == (b.grouping, b.columns, b.kind, b.df, b.lkj)
        for name in ("scale", "A", "sd_codes", "sd_parameters"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_default_intercept_at_centred_columns_is_exact():
    bound = bind(None, slope_design())
    sds = np.array([2.5 * S, 2.5 * S / np.std(X, ddof=1)])
    for beta in ([3.0, 0.1], [-400.0, 0.2]):
        beta = np.array(beta)
        centred = beta[0] + X.mean() * beta[1]
        expected = stats.norm(Y.mean(), sds[0]).logpdf(centred) + stats.norm(0, sds[1]).logpdf(beta[1])
        assert log_density_beta(bound, beta) == pytest.approx(expected, rel=1e-8)
    rng = np.random.default_rng(1)
    draws = np.array([draw_beta(bound, rng) for _ in range(4000)])
    assert stats.kstest(draws[:, 0] + X.mean() * draws[:, 1], stats.norm(Y.mean(), sds[0]).cdf).pvalue > 1e-3
    assert stats.kstest(draws[:, 1], stats.norm(0, sds[1]).cdf).pvalue > 1e-3
    assert bound.beta_flat.shape == (2, 0)


def test_default_blocks_lines_and_round_trip():
    built = slope_design()
    bound = bind(None, built)
    (block,) = bound.blocks
    assert (block.kind, block.df, block.columns) == ("huang_wand", 2.0, (0, 1))
    np.testing.assert_allclose(block.A, [2.5 * S, 2.5 * S / np.std(X, ddof=1)])
    assert bound.lines[0].startswith("beta[Intercept] ~ Normal(") and bound.lines[0].endswith("at centred columns")
    assert any(line.startswith("Sigma_g ~ HuangWand(2, [") for line in bound.lines)
    assert bound.lines[-1] == f"sigma ~ HalfT(3, {2.5 * S:.4g})"
    assert bound.notes == ()
    same_numbers(bound, bind(bound.as_priors(), built))
    # Frozen numbers stay when the data change.
    other = design(100 * Y, {"Intercept": 1.0, "x": X}, built.groupings)
    np.testing.assert_array_equal(bind(bound.as_priors(), other).beta_precision, bound.beta_precision)
    split = bind(None, slope_design(blocks=((0,), (1,))))
    assert [b.kind for b in split.blocks] == ["huang_wand", "huang_wand"]
    assert [b.columns for b in split.blocks] == [(0,), (1,)]
    assert f"sd_g[x] ~ HalfT(2, {2.5 * S / np.std(X, ddof=1):.4g})" in split.lines
    same_numbers(split, bind(split.as_priors(), slope_design(blocks=((0,), (1,)))))


ROUND_TRIPS = [
    {"beta": bp.Normal(0, 10)},
    {"beta": bp.Normal([1, 2], cov=[[4, 1], [1, 9]])},
    {"beta": bp.Normal([1, 2], [3, 4]), "beta[x]": bp.StudentT(3, 0, 1)},
    {"beta": bp.Flat(), "sd": bp.FlatSD(), "sigma": bp.Jeffreys()},
    {"beta[x]": bp.HalfNormal(1)},
    {"beta[Intercept]": bp.Uniform(-20, 20)},
    {"beta[x]": bp.Flat()},
    {"sd": bp.Exponential(1), "cor": bp.LKJ(2)},
    {"cor_g": bp.LKJ(4)},
    {"sd_g[x]": bp.PC(1, 0.01)},
    {"Sigma": bp.InverseWishart(4, 1.0)},
    {"Sigma_g": bp.Wishart(4, np.eye(2))},
    {"precision_g": bp.Wishart(4, np.eye(2))},
    {"Sigma_g": bp.HuangWand(4, [1, 2])},
    {"Sigma_g[Intercept,x]": bp.HuangWand()},
    {"variance_g": bp.InverseGamma(1, 1)},
    {"variance_g": bp.Uniform(0, 100)},
    {"precision_g[x]": bp.Gamma(0.5, 0.5)},
    {"precision_g": bp.Exponential(1)},
    {"sigma2": bp.InverseGamma(1, 2)},
    {"sigma2": bp.Flat()},
    {"sigma": bp.Gamma(0.5, 38.0)},
    {"dispersion": bp.HalfCauchy(1)},
]


@pytest.mark.parametrize("priors", ROUND_TRIPS, ids=lambda p: " ".join(f"{k}~{v}" for k, v in p.items()))
def test_round_trip(priors):
    built = slope_design()
    bound = bind(priors, built)
    same_numbers(bound, bind(bound.as_priors(), built))
    assert bind(bp.Priors.of(priors), built).lines == bound.lines


def test_mixed_user_and_default_coefficients():
    built = slope_design()
    sds = np.array([2.5 * S, 0.1])
    bound = bind({"beta[x]": bp.Normal(1.0, 0.1)}, built)
    beta = np.array([-1995.0, 1.02])
    centred = beta[0] + X.mean() * beta[1]
    expected = stats.norm(Y.mean(), sds[0]).logpdf(centred) + stats.norm(1.0, 0.1).logpdf(beta[1])
    assert log_density_beta(bound, beta) == pytest.approx(expected, rel=1e-7)
    # A density that is not normal multiplies on top; the intercept's stays at centred columns.
    bound = bind({"beta[x]": bp.StudentT(3, 0, 2)}, built)
    assert list(bound.beta_codes) == [0, codes.STUDENT_T]
    expected = stats.norm(Y.mean(), sds[0]).logpdf(centred) + stats.t(3, 0, 2).logpdf(beta[1])
    assert log_density_beta(bound, beta) == pytest.approx(expected, rel=1e-7)
    rng = np.random.default_rng(2)
    draws = np.array([draw_beta(bound, rng) for _ in range(3000)])
    assert stats.kstest(draws[:, 1], stats.t(3, 0, 2).cdf).pvalue > 1e-3
    assert stats.kstest(draws @ [1, X.mean()], stats.norm(Y.mean(), sds[0]).cdf).pvalue > 1e-3
    # A prior of the intercept applies as printed, at zero, and leaves the slope alone.
    bound = bind({"beta[Intercept]": bp.Normal(5, 2)}, built)
    np.testing.assert_allclose(bound.beta_mean, [5, 0], atol=1e-12)
    assert bound.beta_precision[0, 1] == 0.0
    assert bound.beta_precision[0, 0] == pytest.approx(0.25)


def test_user_prior_on_beta_is_as_printed():
    bound = bind({"beta": bp.Normal(0, 10)}, slope_design())
    np.testing.assert_allclose(bound.beta_precision, np.eye(2) / 100)
    np.testing.assert_array_equal(bound.beta_mean, [0, 0])
    joint = bind({"beta": bp.Normal([1, 2], cov=[[4, 1], [1, 9]])}, slope_design())
    np.testing.assert_allclose(np.linalg.inv(joint.beta_precision), [[4, 1], [1, 9]])
    np.testing.assert_array_equal(joint.beta_mean, [1, 2])
    one = bind({"beta": bp.Normal([1, 2], cov=[[4, 1], [1, 9]]), "beta[x]": bp.Normal(0, 3)}, slope_design())
    np.testing.assert_allclose(one.beta_precision, np.diag([1 / 4, 1 / 9]), atol=1e-12)
    np.testing.assert_allclose(one.beta_mean, [1, 0], atol=1e-12)


def test_flat_coefficients():
    bound = bind({"beta": bp.Flat()}, slope_design())
    np.testing.assert_array_equal(bound.beta_precision, np.zeros((2, 2)))
    np.testing.assert_array_equal(bound.beta_flat, np.eye(2))
    assert log_density_beta(bound, np.array([5.0, -3.0])) == 0.0
    with pytest.raises(PriorError, match="cannot be drawn"):
        draw_beta(bound, np.random.default_rng(0))
    slope = bind({"beta[x]": bp.Flat()}, slope_design())
    np.testing.assert_allclose(slope.beta_flat[:, 0], [-X.mean(), 1.0])
    np.testing.assert_allclose(slope.beta_precision @ slope.beta_flat, 0.0, atol=1e-9)
    values = [log_density_beta(slope, np.array([3.0 - t * X.mean(), t])) for t in (0.0, 2.0)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_specific_beats_general_in_groups():
    built = slope_design()
    (block,) = bind({"Sigma": bp.InverseWishart(5, 2.0)}, built).blocks
    assert (block.kind, block.df) == ("inverse_wishart", 5.0)
    np.testing.assert_array_equal(block.scale, 2 * np.eye(2))
    (block,) = bind({"Sigma": bp.InverseWishart(5, 2.0), "sd_g[x]": bp.Exponential(3)}, built).blocks
    assert block.kind == "sds"
    assert list(block.sd_codes) == [codes.HALF_T, codes.EXPONENTIAL]
    np.testing.assert_allclose(block.sd_parameters[0], [2, 2.5 * S, 0])
    assert block.lkj == 1.0
    (block,) = bind({"sd": bp.Exponential(1), "Sigma_g": bp.InverseWishart(5, 2.0)}, built).blocks
    assert block.kind == "inverse_wishart"
    priors = {"sd": bp.Exponential(1), "sd_g": bp.Exponential(2), "sd_g[x]": bp.Exponential(3)}
    (block,) = bind(priors, built).blocks
    np.testing.assert_array_equal(block.sd_parameters[:, 0], [2, 3])
    (block,) = bind({"cor": bp.LKJ(3)}, built).blocks
    assert (block.kind, block.lkj) == ("sds", 3.0)
    assert list(block.sd_codes) == [codes.HALF_T] * 2
    (block,) = bind({"Sigma_g": bp.Wishart(5, 2.0)}, built).blocks
    np.testing.assert_allclose(block.scale, np.eye(2) / 2)
    (block,) = bind({"Sigma_g": bp.HuangWand(4)}, built).blocks
    assert block.df == 4.0
    np.testing.assert_allclose(block.A[0], 2.5 * S)
    # In one dimension a half-t sd is the Huang-Wand prior, with its conjugate steps.
    blocks = bind({"sd": bp.HalfCauchy(5)}, slope_design(blocks=((0,), (1,)))).blocks
    assert [(b.kind, b.df, b.A[0]) for b in blocks] == [("huang_wand", 1.0, 5.0)] * 2


@pytest.mark.parametrize(
    ("priors", "words"),
    [
        ({"beta[z]": bp.Normal(0, 1)}, r"'beta\[z\]'.*Did you mean 'beta\[x\]'"),
        ({"sd_clinic": bp.HalfT(2, 1)}, "Known keys: beta, sd"),
        ({"phi": bp.HalfNormal(1)}, "gaussian family has no such parameter"),
        ({"beta": bp.Normal([0, 0, 0], 1)}, "3 numbers, the model 2 coefficients: Intercept, x"),
        ({"beta[x]": bp.Normal([0, 0], 1)}, "one mean and one sd"),
        ({"beta": bp.Gamma(1, 1)}, "not a prior of a coefficient"),
        ({"beta": bp.InverseWishart(3, 1.0)}, "not a prior of a coefficient"),
        ({"beta[x]": bp.Normal(0, 1, at=[1, 2])}, "belongs to the intercept"),
        ({"sd": bp.Normal(0, 1)}, "not a prior of a scale"),
        ({"sd_g": bp.InverseWishart(3, 1.0)}, "is not a prior of a scale: sd_g"),
        ({"sd": bp.Uniform(-1, 1)}, "never negative"),
        ({"sd": bp.Jeffreys()}, "always improper"),
        ({"variance_g": bp.Gamma(1, 1)}, "speaks of the precision"),
        ({"precision_g": bp.PC(1, 0.1)}, "speaks of the sd"),
        ({"precision_g": bp.InverseWishart(3, 1.0)}, "does not speak of a precision"),
        ({"precision_g": bp.Flat()}, "flat density of a precision"),
        ({"sd": bp.HalfT(2, 1), "Sigma": bp.HuangWand()}, "not both"),
        ({"cor": bp.LKJ(2), "Sigma": bp.HuangWand()}, "not both"),
        ({"sd_g": bp.HalfT(2, 1), "variance_g": bp.InverseGamma(1, 1)}, "same standard deviation"),
        ({"Sigma": bp.HalfT(2, 1)}, "takes InverseWishart"),
        ({"cor": bp.HalfT(2, 1)}, "takes LKJ"),
        ({"Sigma_g": bp.InverseWishart(5, np.eye(3))}, "3 x 3, but the covariance has 2"),
        ({"Sigma_g": bp.HuangWand(2, [1, 1, 1])}, "3 scales"),
        ({"sigma": bp.HalfT(3, 1), "sigma2": bp.InverseGamma(1, 1)}, "same parameter"),
        ({"sigma": bp.StudentT(3, 0, 1)}, "not a prior of a scale"),
    ],
)
def test_refusals(priors, words):
    with pytest.raises(PriorError, match=words):
        bind(priors, slope_design())


def test_keys_without_a_parameter():
    plain = design(Y, {"Intercept": 1.0})
    assert bind({"sd": bp.HalfT(2, 1)}, plain).notes == ("The prior of sd acts on nothing in this model.",)
    counts = design(np.arange(9.0), {"Intercept": 1.0}, family="poisson")
    with pytest.raises(PriorError, match="poisson family has no such parameter"):
        bind({"sigma": bp.HalfT(2, 1)}, counts)
    bound = bind(None, counts)
    assert (bound.dispersion_name, bound.dispersion_code) == (None, 0)
    np.testing.assert_array_equal(draw_dispersion(bound, np.random.default_rng(0), 2), [1.0, 1.0])
    known = design(Y, {"Intercept": 1.0}, standard_errors=np.ones(N))
    with pytest.raises(PriorError, match="standard errors are known"):
        bind({"sigma": bp.HalfT(2, 1)}, known)
    assert not any(line.startswith("sigma") for line in bind(None, known).lines)
    uncorrelated = slope_design(blocks=((0,), (1,)))
    assert bind({"cor": bp.LKJ(2)}, uncorrelated).notes == ("The prior of cor acts on nothing in this model.",)
    with pytest.raises(PriorError, match="cor_g"):
        bind({"cor_g": bp.LKJ(2)}, uncorrelated)


def test_dispersions():
    counts = np.array([0.0, 4, 7, 1, 3])
    built = design(counts, {"Intercept": 1.0}, family="negative_binomial")
    bound = bind(None, built)
    assert bound.lines[-1] == "1/sqrt(phi) ~ HalfNormal(1)"
    s = np.array([0.2, 1.0])
    np.testing.assert_allclose(log_density_dispersion(bound, s), stats.halfnorm().logpdf(s))
    rng = np.random.default_rng(3)
    assert stats.kstest(1 / np.sqrt(draw_dispersion(bound, rng, 3000)), stats.halfnorm().cdf).pvalue > 1e-3
    bound = bind({"phi": bp.Exponential(0.5)}, built)
    assert bound.lines == ("beta[Intercept] ~ Normal(1.099, 2.5)", "phi ~ Exponential(0.5)")
    assert stats.kstest(draw_dispersion(bound, rng, 3000), stats.expon(scale=2).cdf).pvalue > 1e-3
    bound = bind({"dispersion": bp.Gamma(2, 1)}, built)
    assert bound.lines[-1] == "phi ~ Gamma(2, 1)"
    assert stats.kstest(draw_dispersion(bound, rng, 3000), stats.gamma(2).cdf).pvalue > 1e-3
    gaussian = bind({"sigma2": bp.InverseGamma(3, 2)}, design(Y, {"Intercept": 1.0}))
    assert gaussian.lines[-1] == "sigma2 ~ InverseGamma(3, 2)"
    draws = draw_dispersion(gaussian, rng, 3000)
    assert stats.kstest(draws**2, stats.invgamma(3, scale=2).cdf).pvalue > 1e-3


def test_the_exact_references_can_be_expressed():
    rats = slope_design(blocks=((0,), (1,)))
    bound = bind({"beta": bp.Normal(0, 100), "sd": bp.FlatSD(), "sigma": bp.FlatSD()}, rats)
    assert [(b.kind, list(b.sd_codes)) for b in bound.blocks] == [("sds", [codes.FLAT])] * 2
    assert bound.dispersion_code == codes.FLAT
    n = 21
    plates = grouping("plate", np.arange(n), {"Intercept": 1.0})
    trials = np.full(n, 30.0)
    columns = {"Intercept": 1.0, "x1": np.arange(n) % 2, "x2": np.arange(n) % 3 == 0}
    seeds = design(10 + np.arange(n) % 7, columns, [plates], family="binomial", trials=trials)
    bound = bind({"beta": bp.Normal(0, 1000), "precision_plate": bp.Gamma(0.001, 0.001)}, seeds)
    assert list(bound.blocks[0].sd_codes) == [codes.GAMMA_PRECISION]
    assert "precision_plate[Intercept] ~ Gamma(0.001, 0.001)" in bound.lines
    assert any("Gelman" in note for note in bound.notes)
    bound = bind({"beta": bp.Normal(0, 1), "sd": bp.HalfCauchy(1)}, seeds)
    assert (bound.blocks[0].kind, bound.blocks[0].df) == ("huang_wand", 1.0)
    bound = bind({"beta": bp.Normal(0, 1000), "variance_plate": bp.InverseGamma(0.001, 0.001)}, seeds)
    assert list(bound.blocks[0].sd_codes) == [codes.INVERSE_GAMMA_VARIANCE]
    year = np.linspace(-1, 1, 40)
    rows = grouping("obs", np.arange(40), {"Intercept": 1.0})
    columns = {"Intercept": 1.0, "year": year, "year2": year**2, "year3": year**3}
    counts = design(np.arange(40) % 5, columns, [rows], family="poisson")
    priors = {"beta": bp.Uniform(-10, 10), "beta[Intercept]": bp.Uniform(-20, 20), "sd": bp.Uniform(0, 5)}
    bound = bind(priors, counts)
    assert list(bound.beta_codes) == [codes.UNIFORM] * 4
    np.testing.assert_array_equal(bound.beta_parameters[:, 1], [20, 10, 10, 10])
    assert not bound.beta_precision.any()
    schools = grouping("school", np.arange(8), {"Intercept": 1.0})
    eight = design(Y[:8], {"Intercept": 1.0}, [schools], standard_errors=np.full(8, 10.0))
    bound = bind({"beta": bp.Normal(0, 5), "sd": bp.HalfCauchy(5)}, eight)
    assert bound.dispersion_name is None and bound.notes == ()


def test_wildly_scaled_columns_keep_a_proper_default():
    for factor in (1e-9, 1e9):
        built = design(Y, {"Intercept": 1.0, "x": factor * (X - 1900)})
        bound = bind(None, built)
        assert bound.beta_flat.shape[1] == 0
        assert np.isfinite(log_density_beta(bound, np.array([1.0, 1.0 / factor])))
        assert np.all(np.isfinite(draw_beta(bound, np.random.default_rng(0))))


def test_no_fixed_effects_at_all():
    built = design(Y, {}, [grouping("g", G, {"Intercept": 1.0})])
    bound = bind(None, built)
    assert bound.beta_mean.shape == (0,)
    assert draw_beta(bound, np.random.default_rng(0)).shape == (0,)
    with pytest.raises(ImproperPosterior):
        bind({"sd": bp.Jeffreys()}, built)
