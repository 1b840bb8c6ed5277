"""The first screen that a user sees, the frames behind it, and `fit` as the door."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.errors import BayouError, DataError, Unsupported
from bayou.fitting import Fit
from bayou.fitting.report import _cell, describe_fit, describe_model, fit_html, model_html
from standins import model, posterior


@pytest.fixture
def good() -> Fit:
    return Fit(posterior(model("gaussian")))


def test_the_model_shows_formula_family_data_and_every_prior() -> None:
    of = model("negative_binomial")
    of.design.notes = ("x: reference level a.",)
    text = describe_model(of)
    assert text.splitlines()[:3] == [
        "bayou model",
        "Formula   y ~ x + (1 + x | clinic)",
        "Family    negative binomial, log link",
    ]
    assert "48 rows; clinic: 6 levels" in text
    assert all(line in text for line in of.bound.lines) and "reference level a" in text
    assert "<script" not in model_html(of)


def test_a_fit_shows_two_blocks_and_ends_with_the_verdict(good: Fit) -> None:
    lines = describe_fit(good).splitlines()
    assert lines[0] == "bayou fit"
    group, population = lines.index("Group level"), lines.index("Population level")
    assert group < population
    assert lines[group + 2].split()[0] == "sd_clinic[Intercept]"
    assert lines[population + 2].split()[0] == "beta[Intercept]"
    assert any("Gibbs(draws=500)" in line for line in lines)
    assert any("4 chains of 500 draws after 500 of warm-up, 0.50 s" in line for line in lines)
    assert any(line.startswith("Verdict: ok.") for line in lines)
    assert max(map(len, lines)) < 120
    assert "<strong>Verdict: ok." in fit_html(good) and "Population level" in good._repr_html_()


def test_a_bad_verdict_comes_first() -> None:
    result = posterior(model("gaussian"))
    result.draws["beta"][0] += 3.0
    fit = Fit(result)
    assert str(fit).startswith("Verdict: NOT OK. The chains do not agree yet")
    assert fit_html(fit).startswith("<div><strong>bayou fit</strong><p><strong>Verdict: NOT OK.")


def test_html_is_escaped() -> None:
    of = model("gaussian", factor="<b>")
    assert "<b>" not in fit_html(Fit(posterior(of)))


@pytest.mark.parametrize(
    ("value", "sd", "text"),
    [
        (1.23456, 0.5, "1.23"),
        (-0.00001, 0.5, "0.00"),
        (251.4051, 6.8, "251.4"),
        (251405.1, 6800.0, "251405"),
        (1e-9, 2e-9, "1.000e-09"),
        (np.nan, 1.0, "–"),
        (2.0, 0.0, "2"),
    ],
)
def test_two_digits_of_the_sd_decide_the_decimals(value: float, sd: float, text: str) -> None:
    assert _cell("mean", value, sd) == text


# ---- frames --------------------------------------------------------------------------------


def test_summary_columns_rows_and_interval(good: Fit) -> None:
    frame = good.summary()
    assert list(frame.columns) == ["mean", "sd", "lower", "median", "upper", "r_hat", "ess_bulk", "ess_tail"]
    assert list(frame.index) == list(good.result.rows)
    draws = good.result.draws["sigma"].ravel()
    assert frame.loc["sigma", "lower"] == pytest.approx(np.quantile(draws, 0.025))
    assert good.summary(interval=0.5).loc["sigma", "upper"] == pytest.approx(np.quantile(draws, 0.75))
    frame["mean"] = 0.0
    assert good.summary().loc["sigma", "mean"] != 0.0  # a copy was handed out
    wide = good.summary(groups=True)
    assert len(wide) == 6 + 12 and wide.index[6] == "b_clinic[level 0,Intercept]"
    with pytest.raises(DataError, match="between 0 and 1"):
        good.summary(interval=95)


def test_frames_of_effects(good: Fit) -> None:
    assert list(good.fixed_effects.index) == ["Intercept", "x"]
    assert list(good.variance_components.index) == [
        "sd_clinic[Intercept]",
        "sd_clinic[x]",
        "cor_clinic[Intercept,x]",
        "sigma",
    ]
    effects = good.random_effects("clinic")
    assert effects.index.names == ["level", "coefficient"] and len(effects) == 12
    b = good.result.draws["b_clinic"]
    assert effects.loc[("level 3", "x"), "mean"] == pytest.approx(b[..., 3, 1].mean())
    with pytest.raises(DataError, match="'klinik'.*'clinic'"):
        good.random_effects("klinik")


def test_draws_and_derived_quantities(good: Fit) -> None:
    frame = good.draws()
    assert frame.shape == (2000, 6) and frame.index.names == ["chain", "draw"]
    np.testing.assert_array_equal(frame["sigma"], good.result.draws["sigma"].ravel())
    share = good.derive("sigma**2")
    assert share.dims == ("chain", "draw")
    icc, r2 = good.icc(), good.r2()
    assert list(icc.index) == ["clinic"] and list(r2.index) == ["marginal", "conditional"]
    assert (r2.loc["conditional", "mean"] > r2.loc["marginal", "mean"]) and 0 < icc.loc["clinic", "mean"] < 1
    assert isinstance(good.residuals("quantile"), pd.Series)


def test_what_sampling_cannot_give_is_explained(good: Fit) -> None:
    for name in ("log_marginal", "log_likelihood", "aic", "bic"):
        with pytest.raises(Unsupported, match=r"fit\.loo"):
            getattr(good, name)
        assert not hasattr(type(good), "__getattr__")


def test_a_fit_without_groups() -> None:
    of = model("gaussian")
    of.design.groupings = ()
    fit = Fit(posterior(of))
    assert "Group level" not in str(fit) and "beta[x]" in str(fit)
    assert fit.icc().empty and len(fit.r2()) == 2
    assert len(fit.predict(groups="marginal")) == 48 and len(fit.summary(groups=True)) == 3
    assert np.isfinite(fit.loo().elpd)


# ---- the door ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> dict:
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(8), 10)
    x = rng.normal(size=80)
    return {"y": 1 + 0.5 * x + rng.normal(size=8)[g] + 0.5 * rng.normal(size=80), "x": x, "g": g}


def test_the_seed_decides_the_draws(data: dict) -> None:
    one, two = (bayou.fit("y ~ x + (1 | g)", data, seed=3, draws=100, warmup=100, cores=c) for c in (1, 2))
    np.testing.assert_array_equal(one.result.draws["beta"], two.result.draws["beta"])
    free = bayou.fit("y ~ x + (1 | g)", data, draws=100, warmup=100)
    again = bayou.fit(free.model, seed=free.result.info["seed"], draws=100, warmup=100)
    np.testing.assert_array_equal(free.result.draws["beta"], again.result.draws["beta"])
    assert one.seconds > 0.0


def test_a_fit_of_real_draws_tells_the_truth(data: dict, tmp_path) -> None:
    fit = bayou.fit("y ~ x + (1 | g)", data, seed=3)
    assert fit.verdict.ok, str(fit.verdict)
    assert abs(fit.fixed_effects.loc["x", "mean"] - 0.5) < 0.2
    again = bayou.load(fit.save(tmp_path / "fit.nc"))
    assert str(again) == str(fit)
    loo = fit.loo()
    assert loo.elpd == pytest.approx(again.loo().elpd)
    assert "g: 8 levels" in repr(fit.model)


def test_bad_calls_are_errors_before_sampling(data: dict) -> None:
    with pytest.raises(DataError, match="No data"):
        bayou.fit("y ~ x")
    model = bayou.Model("y ~ x", data)
    with pytest.raises(DataError, match="bound to its data"):
        bayou.fit(model, data)
    for seed in (-1, 1.5, "a", True):
        with pytest.raises(DataError, match="seed="):
            bayou.fit(model, seed=seed)
    with pytest.raises(Unsupported, match="gibs"):
        bayou.fit(model, engine="gibs")
    with pytest.raises(BayouError):
        bayou.fit("y ~ z", data)
