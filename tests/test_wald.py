"""Tests of linear hypotheses and tables of terms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayou
from bayou.errors import DataError, Unsupported
from bayou.fitting import Fit
from bayou.inference import Test
from small_samples import split_plot

FORMULA = "y ~ management * seed + x + (1 | block / management)"


@pytest.fixture(scope="module")
def fit() -> Fit:
    return bayou.fit(FORMULA, split_plot(), engine="reml", seed=1)


@pytest.fixture(scope="module")
def counts() -> Fit:
    data = split_plot()
    data["n"] = np.random.default_rng(2).poisson(np.exp(0.2 * data["y"]))
    return bayou.fit("n ~ management * x + seed + (1 | block)", data, family="poisson", engine="laplace", seed=1)


@pytest.fixture(scope="module")
def sampled() -> Fit:
    return bayou.fit("y ~ management + x + (1 | block)", split_plot(), engine="gibbs", seed=1)


def test_one_row(fit) -> None:
    found = fit.test("2*x - seed[s2] = 0.1", interval=0.9)
    names, of = list(fit.model.design.coefficients), fit.result.estimates
    L = np.zeros(len(names))
    L[names.index("x")], L[names.index("seed[s2]")] = 2, -1
    value, se = L @ of.estimate[: of.fixed], np.sqrt(L @ of.beta_covariance @ L)
    assert found.estimate == pytest.approx(value) and found.se == pytest.approx(se)
    assert found.statistic == pytest.approx((value - 0.1) / se)
    t = stats.t(found.denominator_df)
    assert found.p == pytest.approx(2 * t.sf(abs(found.statistic)))
    assert (found.lower, found.upper) == (pytest.approx(value - t.ppf(0.95) * se), pytest.approx(value + t.ppf(0.95) * se))
    assert found.distribution == "t" and found.numerator_df == 1 and found.probability is None


def test_a_coefficient_is_tested_as_in_the_table(fit) -> None:
    table = fit.fixed_effects
    for name in table.index:
        found = fit.test(name)
        assert found.statistic == pytest.approx(table.loc[name, "statistic"], rel=1e-9)
        assert found.denominator_df == pytest.approx(table.loc[name, "df"], rel=1e-7)
        assert found.p == pytest.approx(table.loc[name, "p"], rel=1e-6)


def test_several_rows_by_wald(fit) -> None:
    found = fit.test("seed = 0", method="wald")
    of = fit.result.estimates
    k = [i for i, name in enumerate(fit.model.design.coefficients) if name in ("seed[s2]", "seed[s3]", "seed[s4]")]
    b, C = of.estimate[k], of.beta_covariance[np.ix_(k, k)]
    assert found.statistic == pytest.approx(b @ np.linalg.solve(C, b))
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 3))
    assert found.distribution == "chi-squared" and found.denominator_df == np.inf and found.estimate is None
    assert fit.test("seed").statistic == pytest.approx(found.statistic / 3)  # F, the same covariance


def test_a_nonzero_right_side_moves_the_joint_test(fit) -> None:
    of = fit.result.estimates
    names = list(fit.model.design.coefficients)
    at = {name: of.estimate[names.index(name)] for name in ("seed[s2]", "seed[s3]")}
    text = ", ".join(f"{name} = {value:.17g}" for name, value in at.items())
    found = fit.test(text)
    assert found.statistic == pytest.approx(0.0, abs=1e-15) and found.p == pytest.approx(1.0)


def test_least_squares_agrees_with_scipy() -> None:
    data = split_plot()
    fit = bayou.fit("y ~ management", data, engine="reml", seed=1)
    wanted = stats.f_oneway(*(part["y"] for _, part in data.groupby("management")))
    for type in ("I", "II", "III"):
        row = fit.anova(type).loc["management"]
        assert row["F"] == pytest.approx(wanted.statistic) and row["p"] == pytest.approx(wanted.pvalue)


def test_lmertest_tables_of_each_type(fit) -> None:
    """Type III from lmerTest, with types I and II, of which only the df depend on how a hypothesis is written."""
    wanted = {
        "III": ([6.69764, 12.99254, 8.09646, 0.44212], [10.108023, 30.390677, 34.316099, 30.249285]),
        "II": ([6.73425, 12.51858, 8.09646, 0.44212], [10.038872, 30.327909, 34.316099, 30.249285]),
        "I": ([6.57543, 11.36307, 8.88260, 0.44212], [9.976682, 30.106124, 33.820256, 30.249523]),
    }
    for type, (F, df) in wanted.items():
        table = fit.anova(type)
        assert list(table.index) == ["management", "seed", "x", "management:seed"]
        np.testing.assert_allclose(table["F"], F, rtol=2e-6)
        np.testing.assert_allclose(table["denominator_df"], df, rtol=3e-5)
        np.testing.assert_array_equal(table["numerator_df"], [2, 3, 1, 6])
    assert fit.anova("II").attrs["method"] == "type II, Satterthwaite"
    slopes = bayou.fit("y ~ management * x + (1 | block / management)", split_plot(), engine="reml", seed=1)
    for type, F in (("III", [6.11905, 2.98981]), ("II", [6.11905, 2.33161]), ("I", [6.11737, 2.33161])):
        np.testing.assert_allclose(slopes.anova(type)["F"][:2], F, rtol=2e-6)


def test_type_three_does_not_depend_on_the_coding(fit) -> None:
    data = split_plot()
    table = fit.anova()
    for formula in (
        'y ~ C(management, Treatment("c_mow")) * C(seed, Sum) + x + (1 | block / management)',
        "y ~ C(management, Helmert) * C(seed, reference='s3') + x + (1 | block / management)",
    ):
        other = bayou.fit(formula, data, engine="reml", seed=1).anova()
        np.testing.assert_allclose(other["F"].to_numpy(), table["F"].to_numpy(), rtol=1e-6)
        # df change with the coordinates in which the rows are orthonormal, a little
        np.testing.assert_allclose(other["denominator_df"].to_numpy(), table["denominator_df"].to_numpy(), rtol=1e-3)


def test_terms_of_a_generalised_model_have_chi_squared_tests(counts) -> None:
    table = counts.anova()
    assert list(table.columns) == ["df", "chi_squared", "p"]
    np.testing.assert_allclose(table["p"], stats.chi2.sf(table["chi_squared"], table["df"]))
    assert table.loc["management:x", "chi_squared"] == pytest.approx(counts.test("management:x").statistic)
    assert table.loc["seed", "df"] == 3
    # the slope averaged over management, by hand
    by_hand = counts.test("x + management[b_graze]:x/3 + management[c_mow]:x/3 = 0")
    assert table.loc["x", "chi_squared"] == pytest.approx(by_hand.statistic**2)
    assert by_hand.distribution == "z"


def test_after_a_sampler(sampled) -> None:
    draws = sampled.draws()["beta[x]"]
    found = sampled.test("x = 0.1")
    assert found.estimate == pytest.approx(draws.mean()) and found.se == pytest.approx(draws.std())
    assert found.probability == pytest.approx((draws > 0.1).mean())
    assert found.lower == pytest.approx(draws.quantile(0.025)) and found.upper == pytest.approx(draws.quantile(0.975))
    assert found.distribution == "z" and "draws" in found.method and "P(x > 0.1)" in str(found)
    b = sampled.draws()[["beta[management[b_graze]]", "beta[management[c_mow]]"]]
    joint = sampled.test("management")
    assert joint.statistic == pytest.approx(b.mean() @ np.linalg.solve(b.cov(), b.mean()))
    assert joint.probability is None
    assert sampled.anova().loc["management", "chi_squared"] == pytest.approx(joint.statistic)
    with pytest.raises(Unsupported, match="was sampled"):
        sampled.test("x", method="satterthwaite")


def test_what_it_prints(fit, counts) -> None:
    found = fit.test("x = 0")
    assert isinstance(found, Test)
    text = str(found)
    assert text.splitlines()[0] == "Hypothesis  x = 0" and "Satterthwaite" in text and "t(34.3) = 2.845, p = 0.0074" in text
    several = str(fit.test("seed", method="kenward-roger"))
    assert several.count("= 0\n") == 3 and "F(3, " in several and "Estimate" not in several
    assert "chi-squared(3) = " in str(counts.test("seed")) and found._repr_html_().startswith("<pre>")
    table = found.table()
    assert isinstance(table, pd.DataFrame) and table.index[0] == "x = 0"
    assert list(table.columns) == ["estimate", "se", "lower", "upper", "statistic", "numerator_df", "denominator_df", "p"]
    assert list(fit.test("seed").table().columns) == ["statistic", "numerator_df", "denominator_df", "p"]


def test_a_loaded_fit_has_the_same_tests(fit, tmp_path) -> None:
    again = bayou.load(fit.save(tmp_path / "fit.nc"))
    for method in ("satterthwaite", "kenward-roger", "wald"):
        pd.testing.assert_frame_equal(again.anova(method=method), fit.anova(method=method), rtol=1e-7)


def test_wrong_words_are_named(fit) -> None:
    with pytest.raises(DataError, match="'satterthwaite', 'kenward-roger', 'wald'"):
        fit.test("x", method="wold")
    with pytest.raises(DataError, match="type is one of"):
        fit.anova("IV")
    with pytest.raises(DataError, match="interval"):
        fit.test("x", interval=95)
    alone = bayou.fit("y ~ 1 + (1 | block)", split_plot(), engine="reml", seed=1)
    with pytest.raises(DataError, match="no terms"):
        alone.anova()
    empty = bayou.fit("y ~ 0 + (1 | block)", split_plot(), engine="reml", seed=1)
    with pytest.raises(DataError, match="no fixed effects"):
        empty.test("x")
