"""Predictions: four kinds of groups, three kinds of answers, reproducible, bounded in memory."""

from __future__ import annotations

import numpy as np
import pytest

from bayou import families
from bayou.errors import DataError, Unsupported
from bayou.predict import integrated_mean, linear, predict
from standins import model, posterior

NEW = {"x": [0.0, 1.0, 2.0, -1.0], "clinic": ["level 2", "nowhere", "nowhere", None]}
KNOWN = {"x": [1.0, -1.0], "clinic": ["level 2", "level 0"]}


@pytest.fixture
def result():
    return posterior(draws=400)


def test_observed_is_the_formula_written_out(result) -> None:
    draws = predict(result, KNOWN, kind="linear", draws=True)
    assert draws.dims == ("chain", "draw", "row") and draws.shape == (4, 400, 2)
    beta, b = result.draws["beta"], result.draws["b_clinic"]
    expected = beta[..., 0] + beta[..., 1] + b[..., 2, 0] + b[..., 2, 1]
    np.testing.assert_allclose(draws[..., 0], expected)
    means = predict(result, KNOWN, kind="mean", draws=True)
    np.testing.assert_allclose(means, np.exp(draws))


def test_summary_is_that_of_the_draws_in_row_order(result) -> None:
    data = {**KNOWN, "index": ["b", "a"]}
    frame = predict(result, data, interval=0.8)
    draws = predict(result, data, draws=True).values.reshape(-1, 2)
    assert list(frame.columns) == ["mean", "sd", "lower", "median", "upper"]
    assert list(frame.index) == ["b", "a"]
    np.testing.assert_allclose(frame["mean"], draws.mean(axis=0))
    np.testing.assert_allclose(frame["sd"], draws.std(axis=0, ddof=1))
    np.testing.assert_allclose(frame[["lower", "median", "upper"]].T, np.quantile(draws, (0.1, 0.5, 0.9), axis=0))


def test_without_data_the_fitted_rows_are_predicted(result) -> None:
    frame = predict(result)
    assert len(frame) == result.model.design.n
    lower, upper = frame["lower"], frame["upper"]
    assert (lower <= frame["median"]).all() and (frame["median"] <= upper).all()


def test_unseen_and_missing_levels_are_named_with_the_options(result) -> None:
    with pytest.raises(DataError, match=r"3 rows .* 'clinic' .* nowhere, \(missing\).*groups='new'"):
        predict(result, NEW)


def test_population_leaves_the_groups_out(result) -> None:
    draws = predict(result, NEW, kind="linear", groups="population", draws=True)
    beta = result.draws["beta"]
    np.testing.assert_allclose(draws[..., 2], beta[..., 0] + 2 * beta[..., 1])


def test_new_groups_have_the_covariance_of_sigma_and_rows_of_a_level_share_them(result) -> None:
    draws = predict(result, NEW, kind="linear", groups="new", draws=True, seed=3).values
    fixed = predict(result, NEW, kind="linear", groups="population", draws=True).values
    b = draws - fixed
    sd, rho = result.draws["sd_clinic"], result.draws["cor_clinic"][..., 0, 1]
    variance = sd[..., 0] ** 2 + sd[..., 1] ** 2 + 2 * rho * sd[..., 0] * sd[..., 1]
    assert b[..., 1].var() == pytest.approx(variance.mean(), rel=0.12)
    shared = sd[..., 0] ** 2 + 2 * sd[..., 1] ** 2 + 3 * rho * sd[..., 0] * sd[..., 1]
    assert (b[..., 1] * b[..., 2]).mean() == pytest.approx(shared.mean(), rel=0.12)
    # the second row beside other groups: only its own level is shared
    assert abs(np.corrcoef(b[..., 0].ravel(), b[..., 1].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(b[..., 3].ravel(), b[..., 1].ravel())[0, 1]) < 0.1


def test_rows_of_missing_level_are_groups_of_their_own(result) -> None:
    data = {"x": [0.0, 0.0], "clinic": [None, float("nan")]}
    draws = predict(result, data, kind="linear", groups="new", draws=True).values
    assert not np.allclose(draws[..., 0], draws[..., 1])


@pytest.mark.parametrize(
    ("family", "link"),
    [
        ("gaussian", "identity"),
        ("gaussian", "log"),
        ("poisson", "log"),
        ("bernoulli", "logit"),
        ("bernoulli", "probit"),
        ("bernoulli", "cloglog"),
    ],
)
@pytest.mark.parametrize("sd", [0.05, 1.0, 8.0])
def test_integrated_mean_against_quadrature(family: str, link: str, sd: float) -> None:
    from scipy.integrate import quad

    kind = type(families.get(family))(link=link)
    centres = np.array([[-2.0, 0.3, 4.0]])
    got = integrated_mean(kind, centres, np.full((1, 3), sd**2))[0]
    for value, centre in zip(got, centres[0], strict=True):
        # the log link puts its mass at z = sd
        def integrand(z: float, centre: float = centre) -> float:
            return float(kind.mean(centre + sd * z)) * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)

        exact = quad(integrand, -12, 22, limit=400, points=[-centre / sd, 0.0, sd], epsabs=1e-13, epsrel=1e-12)[0]
        assert value == pytest.approx(exact, rel=1e-8, abs=1e-12)


def test_marginal_mean_is_the_average_over_new_groups(result) -> None:
    data = {"x": np.zeros(300), "clinic": [f"new {k}" for k in range(300)]}
    many = predict(result, data, groups="new", draws=True).values
    marginal = predict(result, {"x": [0.0], "clinic": ["new"]}, groups="marginal", draws=True).values[..., 0]
    np.testing.assert_allclose(many.mean(axis=2).mean(), marginal.mean(), rtol=0.01)
    assert (
        marginal > predict(result, {"x": [0.0], "clinic": ["new"]}, groups="population", draws=True).values[..., 0]
    ).all()


def test_marginal_outcomes_are_as_wide_as_outcomes_of_new_groups(result) -> None:
    data = {"x": np.zeros(100), "clinic": [f"new {k}" for k in range(100)]}
    new = predict(result, data, kind="outcome", groups="new", draws=True).values
    marginal = predict(result, data, kind="outcome", groups="marginal", draws=True).values
    assert marginal.var() == pytest.approx(new.var(), rel=0.05)
    assert abs(np.corrcoef(marginal[..., 0].ravel(), marginal[..., 1].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson", "negative_binomial", "gamma"])
def test_outcomes_have_the_mean_and_variance_of_the_family(family: str) -> None:
    of = model(family)
    result = posterior(of, draws=3000)
    rows = {"x": [0.5], "clinic": ["level 1"], "trials": [12.0]}
    mean = predict(result, rows, draws=True).values.ravel()
    outcome = predict(result, rows, kind="outcome", draws=True).values.ravel()
    trials = 12.0 if family == "binomial" else 1.0
    assert outcome.mean() == pytest.approx(trials * mean.mean(), rel=0.05)
    dispersion = result.draws[of.family.dispersion].ravel() if of.family.dispersion else None
    variance = trials * of.family.variance(mean, dispersion).mean() + (trials * mean).var()
    assert outcome.var() == pytest.approx(variance, rel=0.12)
    if family in ("binomial", "poisson", "negative_binomial"):
        assert (outcome == np.rint(outcome)).all()


@pytest.mark.parametrize("groups", ["observed", "new", "marginal"])
def test_the_same_seed_gives_the_same_numbers(result, groups) -> None:
    def run(seed):
        return predict(result, KNOWN, kind="outcome", groups=groups, draws=True, seed=seed).values

    np.testing.assert_array_equal(run(5), run(5))
    assert (run(5) != run(6)).any()
    np.testing.assert_array_equal(run(None), run(None))


def test_blocks_of_rows_do_not_change_the_means(result, monkeypatch) -> None:
    data = {"x": np.linspace(-1, 1, 10), "clinic": ["level 1", "a"] * 5}
    whole = predict(result, data, groups="new", seed=1)
    monkeypatch.setattr(linear, "BLOCK_NUMBERS", 3 * 1600)
    np.testing.assert_allclose(predict(result, data, groups="new", seed=1), whole)


def test_one_residual_sd_per_level_of_a_factor() -> None:
    of = model("gaussian", sigma_by=True)
    result = posterior(of, draws=2000)
    result.draws["sigma"][..., 1] *= 5
    outcome = predict(result, kind="outcome", draws=True).values.reshape(-1, of.design.n)
    mean = predict(result, draws=True).values.reshape(-1, of.design.n)
    sds = (outcome - mean).std(axis=0)
    assert sds[1::2].mean() == pytest.approx(5 * sds[::2].mean(), rel=0.1)


def test_effects_that_were_not_kept_are_an_error_and_a_subset_is_used() -> None:
    result = posterior(draws=400)
    full = predict(result, KNOWN, kind="linear", draws=True)
    result = posterior(draws=400)
    result.draws["b_clinic"] = result.draws["b_clinic"][:, 9::10]
    result.info["effect_draws"] = list(range(9, 400, 10))
    part = predict(result, KNOWN, kind="linear", draws=True)
    np.testing.assert_allclose(part, full.isel(draw=slice(9, None, 10)))
    assert predict(result, KNOWN, groups="population", draws=True).sizes["draw"] == 400
    del result.draws["b_clinic"]
    with pytest.raises(Unsupported, match="keep_effects=True"):
        predict(result, KNOWN)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "means"}, "'mean', 'linear', 'outcome'"),
        ({"groups": "all"}, "'observed', 'new', 'population', 'marginal'"),
        ({"interval": 95}, "between 0 and 1"),
    ],
)
def test_unknown_options_name_the_known_ones(result, options, words) -> None:
    with pytest.raises(DataError, match=words):
        predict(result, KNOWN, **options)


def test_draws_beyond_memory_are_refused_before_they_are_made(result, monkeypatch) -> None:
    monkeypatch.setattr(linear.os, "sysconf", lambda name: 1)
    with pytest.raises(DataError, match="GB"):
        predict(result, KNOWN, draws=True)


def test_columns_that_the_new_data_lack_are_named() -> None:
    result = posterior(model("binomial"))
    with pytest.raises(DataError, match=r"no column 'clinic'.*groups='new'"):
        predict(result, {"x": [1.0], "trials": [3.0]})
    with pytest.raises(DataError, match="counts out of trials: add the column 'trials'"):
        predict(result, {"x": [1.0]}, kind="outcome", groups="new")
    assert len(predict(result, {"x": [1.0]}, groups="new")) == 1
