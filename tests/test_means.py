"""Marginal means and their differences: R's emmeans, averages by hand, draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayou
from bayou.errors import DataError, Unsupported
from bayou.fitting import Fit
from small_samples import split_plot

PTUKEY = [0.006649479192, 0.003084424015, 0.001247428527, 0.984274306384, 0.594689365467, 0.787331568560]
FORMULA = "y ~ management * seed + x + (1 | block / management)"


@pytest.fixture(scope="module")
def fit() -> Fit:
    return bayou.fit(FORMULA, split_plot(), engine="reml", seed=1)


@pytest.fixture(scope="module")
def sampled() -> Fit:
    data = split_plot()
    data["n"] = np.random.default_rng(2).poisson(np.exp(0.2 * data["y"]))
    return bayou.fit("n ~ management + x + (1 | block)", data, family="poisson", engine="metropolis", seed=1)


def test_emmeans_of_the_split_plot(fit) -> None:
    means = fit.marginal_means("management")
    assert list(means.index) == ["a_none", "b_graze", "c_mow"] and means.index.name == "management"
    np.testing.assert_allclose(means["estimate"], [10.13538382, 11.78135861, 9.58578991], rtol=1e-7)
    np.testing.assert_allclose(means["se"], [0.511947726, 0.510333327, 0.509459359], rtol=1e-6)
    np.testing.assert_allclose(means["df"], [13.5699134, 13.4002346, 13.3232734], rtol=2e-6)
    np.testing.assert_allclose(means["lower"], [9.03409127, 10.68218852, 8.48787839], rtol=1e-6)
    np.testing.assert_allclose(means["upper"], [11.2366764, 12.8805287, 10.6837014], rtol=1e-6)
    kenward_roger = fit.marginal_means("management", method="kenward-roger")
    np.testing.assert_allclose(kenward_roger["se"], [0.512138582, 0.510531456, 0.509553232], rtol=1e-6)
    np.testing.assert_allclose(kenward_roger["df"], [13.3497384, 13.1810981, 13.1048359], rtol=2e-6)
    at = fit.marginal_means("seed", at={"x": 2})
    np.testing.assert_allclose(at["estimate"], [10.9752706, 11.5801294, 12.0568464, 10.5480148], rtol=1e-7)
    np.testing.assert_allclose(at["se"], [0.463038973, 0.473596215, 0.507040441, 0.490308084], rtol=1e-6)


def test_emmeans_with_a_polynomial_at_the_mean() -> None:
    fit = bayou.fit("y ~ management * poly(x, 2) + (1 | block)", split_plot(), engine="reml", seed=1)
    means = fit.marginal_means("management")
    np.testing.assert_allclose(means["estimate"], [10.01333864, 11.61228590, 9.52268462], rtol=1e-6)
    np.testing.assert_allclose(means["se"], [0.519277699, 0.517260803, 0.514543714], rtol=1e-5)
    np.testing.assert_allclose(means["df"], [12.1784071, 12.1524676, 11.8632126], rtol=1e-5)


def test_emmeans_pairs_with_each_adjustment(fit) -> None:
    tukey = fit.contrasts("management", adjust="tukey")
    assert list(tukey.index) == ["a_none - b_graze", "a_none - c_mow", "b_graze - c_mow"]
    np.testing.assert_allclose(tukey["estimate"], [-1.645974789, 0.549593911, 2.195568700], rtol=1e-6)
    np.testing.assert_allclose(tukey["se"], [0.625989797, 0.625269187, 0.623930057], rtol=2e-6)
    np.testing.assert_allclose(tukey["p"], [0.0593747957, 0.6648014485, 0.0139082567], rtol=2e-5)
    np.testing.assert_allclose(tukey["lower"], [-3.357389342, -1.161178482, 0.486343379], rtol=1e-5)
    holm = fit.contrasts("seed", adjust="holm")
    p = [6.22959985e-02, 1.34212511e-03, 1.32334988e-01, 1.32334988e-01, 1.72271268e-03, 1.38472552e-05]
    np.testing.assert_allclose(holm["p"], p, rtol=1e-5)
    bonferroni = fit.contrasts("seed", adjust="bonferroni")
    p = [1.24591997e-01, 1.61055013e-03, 7.14835695e-01, 3.97004965e-01, 2.58406902e-03, 1.38472552e-05]
    np.testing.assert_allclose(bonferroni["p"], p, rtol=1e-5)
    lower = [-1.304800186, -1.823305495, -0.324516230, -1.182642487, 0.294761896, 0.776047221]
    for frame in (holm, bonferroni):
        np.testing.assert_allclose(frame["lower"], lower, rtol=1e-5)
    within = fit.contrasts("seed", by="management", adjust="tukey")
    np.testing.assert_allclose(
        within.loc["c_mow", "p"],
        [0.17927693751, 0.03237026731, 0.99999979413, 0.87570505014, 0.16143777492, 0.01915208368],
        rtol=2e-5,
    )
    kenward_roger = fit.contrasts("management", adjust="tukey", method="kenward-roger")
    np.testing.assert_allclose(kenward_roger["p"], [0.0605578159, 0.6653005331, 0.0144683507], rtol=2e-5)
    none = fit.contrasts("management")
    np.testing.assert_allclose(none["p"], 2 * stats.t.sf(np.abs(none["statistic"]), none["df"]))


def test_emmeans_of_a_binomial_model(shared) -> None:
    """After glmmTMB, by the normal distribution (there emmeans counts rows; ptukey with infinite df)."""
    data = pd.read_csv(shared / "data" / "cbpp.csv", dtype={"period": str})
    formula = "proportion(incidence, size) ~ period + (1 | herd)"
    fit = bayou.fit(formula, data, family="binomial", engine="laplace", seed=1)
    means = fit.marginal_means("period")
    np.testing.assert_allclose(means["estimate"], [-1.39853247, -2.39086476, -2.52720376, -2.97884615], rtol=2e-6)
    np.testing.assert_allclose(means["se"], [0.232472051, 0.310213978, 0.330275160, 0.430071955], rtol=2e-6)
    np.testing.assert_allclose(means["response"], [0.1980490901, 0.0838719621, 0.0739729634, 0.0483907346], rtol=2e-6)
    ends = stats.norm.ppf(0.975) * means["se"]
    np.testing.assert_allclose(means["response_upper"], 1 / (1 + np.exp(-means["estimate"] - ends)), rtol=1e-12)
    pairs = fit.contrasts("period", adjust="tukey")
    ratios = [2.69751854, 3.09154603, 4.85647899, 1.14607035, 1.80035055, 1.57089008]
    np.testing.assert_allclose(pairs["odds_ratio"], ratios, rtol=2e-6)
    np.testing.assert_allclose(pairs["p"], PTUKEY, rtol=2e-5)
    np.testing.assert_allclose(pairs["odds_ratio_lower"], np.exp(pairs["lower"]))
    assert np.isinf(pairs["df"]).all()


def test_cells_are_predictions_and_margins_their_plain_averages(fit) -> None:
    data = split_plot()
    cells = fit.marginal_means("seed", by="management")
    assert cells.index.names == ["management", "seed"] and len(cells) == 12
    rows = cells.reset_index()[["management", "seed"]].assign(x=data["x"].mean())
    np.testing.assert_allclose(fit.model.design.rebuild(rows).X @ fit.fixed_effects["estimate"], cells["estimate"])
    margins = cells["estimate"].groupby("seed").mean()
    np.testing.assert_allclose(fit.marginal_means("seed")["estimate"], margins)
    pd.testing.assert_frame_equal(fit.marginal_means("management:seed"), cells)
    pd.testing.assert_frame_equal(fit.marginal_means(["management", "seed"]), cells)
    one = fit.marginal_means("seed", at={"management": "c_mow"})
    np.testing.assert_allclose(one["estimate"], cells.loc["c_mow", "estimate"])
    two = fit.marginal_means("seed", at={"management": ["c_mow", "a_none"]})
    np.testing.assert_allclose(two["estimate"], (cells.loc["c_mow", "estimate"] + cells.loc["a_none", "estimate"]) / 2)
    assert fit.marginal_means("seed").attrs["grid"][0] == "management averaged over a_none, b_graze, c_mow"
    assert fit.marginal_means("seed").attrs["grid"][1].startswith("x at its mean -0.0648772")


def test_a_contrast_is_a_hypothesis(fit) -> None:
    pairs = fit.contrasts("management")
    found = fit.test(
        "management[b_graze] - management[c_mow]"
        + "".join(f" + management[b_graze]:seed[{s}]/4 - management[c_mow]:seed[{s}]/4" for s in ("s2", "s3", "s4"))
    )
    row = pairs.loc["b_graze - c_mow"]
    for name in ("estimate", "se", "statistic", "p"):
        assert getattr(found, name) == pytest.approx(row[name], rel=1e-9)
    assert found.denominator_df == pytest.approx(row["df"], rel=1e-9)


def test_numbers_have_levels_when_they_are_few_or_given(fit) -> None:
    slope = fit.contrasts("x", at={"x": [0, 1]})
    assert slope["estimate"].iloc[0] == pytest.approx(-fit.fixed_effects.loc["x", "estimate"])
    assert slope["p"].iloc[0] == pytest.approx(fit.fixed_effects.loc["x", "p"], rel=1e-6)
    data = split_plot().assign(dose=lambda d: d["seed"].str[1].astype(int))
    other = bayou.fit("y ~ dose + factor(dose):x + (1 | block)", data, engine="reml", seed=1)
    assert list(other.marginal_means("dose").index) == [1, 2, 3, 4]
    with pytest.raises(DataError, match="57 values"):
        fit.marginal_means("x")


def test_offsets_booleans_and_columns_of_groups_are_on_the_grid() -> None:
    data = split_plot()
    rng = np.random.default_rng(4)
    data["late"], data["days"] = rng.random(len(data)) < 0.5, rng.integers(1, 9, len(data))
    data["n"] = rng.poisson(data["days"] * np.exp(0.1 * data["y"]))
    formula = "n ~ late + management + offset(log(days)) + (x | block)"
    fit = bayou.fit(formula, data, family="poisson", engine="laplace", seed=1)
    means = fit.marginal_means("late")
    assert list(means.index) == [False, True]
    b = fit.fixed_effects["estimate"]
    by_hand = b["Intercept"] + (b["management[b_graze]"] + b["management[c_mow]"]) / 3 + np.log(data["days"].mean())
    assert means["estimate"].iloc[0] == pytest.approx(by_hand)
    at_one = fit.marginal_means("late", at={"days": 1})
    assert at_one["estimate"].iloc[1] == pytest.approx(by_hand - np.log(data["days"].mean()) + b["late[True]"])
    np.testing.assert_allclose(means["response"], np.exp(means["estimate"]))
    assert fit.contrasts("late")["ratio"].iloc[0] == pytest.approx(np.exp(-b["late[True]"]))
    with pytest.raises(DataError, match="varies by group only"):
        fit.marginal_means("x")


def test_draws_of_a_sampler(sampled) -> None:
    means, draws = sampled.marginal_means("management", interval=0.8), sampled.draws()
    x = split_plot()["x"].mean()
    by_hand = draws["beta[Intercept]"] + draws["beta[management[c_mow]]"] + x * draws["beta[x]"]
    row = means.loc["c_mow"]
    assert row["mean"] == pytest.approx(by_hand.mean()) and row["sd"] == pytest.approx(by_hand.std())
    assert row["upper"] == pytest.approx(by_hand.quantile(0.9))
    assert row["response"] == pytest.approx(np.exp(by_hand).mean())
    assert row["response_lower"] == pytest.approx(np.exp(by_hand.quantile(0.1)), rel=1e-3)
    pairs = sampled.contrasts("management")
    slope = draws["beta[management[b_graze]]"]
    assert pairs["probability"].iloc[0] == pytest.approx((slope < 0).mean())
    assert pairs["ratio"].iloc[0] == pytest.approx(np.exp(-slope.median()))
    with pytest.raises(Unsupported, match="a posterior has none"):
        sampled.contrasts("management", adjust="tukey")


def test_holm_and_tukey_against_scipy(fit) -> None:
    """With two means every adjustment is the t test; with more, Tukey's is between none and Bonferroni."""
    two = {"seed": ["s1", "s3"]}
    rows = [fit.contrasts("seed", at=two, adjust=adjust)["p"].iloc[0] for adjust in ("none", "tukey", "holm", "bonferroni")]
    np.testing.assert_allclose(rows, rows[0], rtol=1e-7)
    none, tukey, bonferroni = (fit.contrasts("seed", adjust=adjust) for adjust in ("none", "tukey", "bonferroni"))
    assert (none["p"] < tukey["p"]).all() and (tukey["p"] < bonferroni["p"]).all()
    assert (tukey["upper"] < bonferroni["upper"]).all() and (none["upper"] < tukey["upper"]).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: f.marginal_means("sed"), "Did you mean `seed`"),
        (lambda f: f.marginal_means("block"), "not in the fixed effects"),
        (lambda f: f.marginal_means([]), "at least one"),
        (lambda f: f.marginal_means("seed", by="seed"), "each of them once"),
        (lambda f: f.marginal_means(3), "no column"),
        (lambda f: f.marginal_means("seed", at={"q": 1}), "does not have"),
        (lambda f: f.marginal_means("seed", at={"x": "a"}), "finite number"),
        (lambda f: f.marginal_means("seed", at={"x": np.nan}), "finite number"),
        (lambda f: f.marginal_means("seed", at={"x": []}), "finite number"),
        (lambda f: f.marginal_means("seed", at={"management": "zz"}), "its levels are"),
        (lambda f: f.marginal_means("seed", at=3), "by column"),
        (lambda f: f.marginal_means("x", at={"x": list(range(100_000))}), "200,000"),
        (lambda f: f.contrasts("seed", at={"seed": "s1"}), "nothing to compare"),
        (lambda f: f.contrasts("seed", adjust="scheffe"), "adjust is one of"),
    ],
)
def test_what_does_not_fit_is_named(fit, call, words) -> None:
    with pytest.raises(DataError, match=words):
        call(fit)


def test_numbers_centred_by_group_have_no_mean_to_stand_at() -> None:
    fit = bayou.fit("y ~ management + center(x, by=block) + (1 | block)", split_plot(), engine="reml", seed=1)
    with pytest.raises(Unsupported, match="centres by block"):
        fit.marginal_means("management")
