"""Kenward and Roger's covariance and F tests: R's pbkrtest, and the paper with n x n matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayou
from bayou.errors import Unsupported
from bayou.inference import components
from bayou.inference.kenward_roger import KenwardRoger
from dense_inference import kenward_roger, kenward_roger_test
from small_samples import crossed, dense_fit, split_plot


def made(formula: str, data, **options) -> tuple[KenwardRoger, bayou.Fit]:
    fit = bayou.fit(formula, data, engine="reml", seed=1, **options)
    return KenwardRoger(fit.model, fit.result.estimates), fit


def test_pbkrtest_sleepstudy(shared) -> None:
    data = pd.read_csv(shared / "data" / "sleepstudy.csv")
    of, fit = made("Reaction ~ Days + (Days | Subject)", data)
    wanted = [[46.574561543, -1.451095627], [-1.451095627, 2.389463424]]
    np.testing.assert_allclose(of.covariance, wanted, rtol=1e-6)
    found = fit.test(np.eye(2), method="kenward-roger")
    assert found.denominator_df == pytest.approx(16.0, rel=1e-9)
    assert found.statistic == pytest.approx(705.8444469, rel=1e-6)
    assert of.degrees(np.eye(2))[1] == pytest.approx(16 / 17, rel=1e-9)
    of, _ = made("Reaction ~ Days + (Days || Subject)", data)
    np.testing.assert_allclose(of.each(np.eye(2)), 18.18747622, rtol=1e-6)


def test_pbkrtest_oats_split_plot(shared) -> None:
    """Balanced: the analysis of variance by hand, without any correction."""
    data = pd.read_csv(shared / "data" / "Oats.csv")
    of, fit = made("yield ~ factor(nitro) * Variety + (1 | Block / Variety)", data)
    table = fit.anova(method="kenward-roger")
    np.testing.assert_allclose(table["denominator_df"], [45, 10, 45], rtol=1e-9)
    np.testing.assert_allclose(table["F"], [37.68565, 1.48534, 0.30282], rtol=2e-5)
    means = fit.marginal_means("Variety", method="kenward-roger")
    np.testing.assert_allclose(means["df"], 8.87, atol=5e-3)


def test_pbkrtest_unbalanced_split_plot() -> None:
    of, fit = made("y ~ management * seed + x + (1 | block / management)", split_plot())
    se = [0.5957978290, 0.7411756100, 0.7591205303, 0.4559252080, 0.4304530374, 0.5244631701, 0.1374218762, 0.6198419101]
    df = [22.93418588, 18.31455331, 19.46560803, 29.66848949, 29.47128741, 29.93080289, 34.04642811, 29.67042984]
    np.testing.assert_allclose(np.sqrt(np.diag(of.covariance))[:8], se, rtol=1e-6)
    np.testing.assert_allclose(of.each(np.eye(13)[:8]), df, rtol=2e-6)
    table = fit.anova(method="kenward-roger")
    np.testing.assert_allclose(table["denominator_df"], [9.840138, 30.019360, 34.046428, 29.879419], rtol=1e-6)
    np.testing.assert_allclose(table["F"], [6.69214, 12.87068, 7.73566, 0.43751], rtol=2e-5)
    np.testing.assert_allclose(table["p"], [0.0146248, 1.4004e-05, 0.0087611, 0.8478280], rtol=2e-5)
    of, fit = made("y ~ management + x + (x | block)", split_plot())
    np.testing.assert_allclose(of.each(np.eye(4)), [8.52937381, 47.63380616, 48.01910103, 4.51953191], rtol=1e-5)
    np.testing.assert_allclose(
        np.sqrt(np.diag(of.covariance)), [0.448181161, 0.382918806, 0.406783470, 0.256305849], rtol=1e-5
    )
    found = fit.test("management", method="kenward-roger")
    assert found.denominator_df == pytest.approx(47.4022108, rel=1e-5)
    assert found.statistic == pytest.approx(13.8053246, rel=1e-5)
    assert of.degrees(np.eye(4)[1:3])[1] == pytest.approx(0.999498049, rel=1e-6)


def test_pbkrtest_crossed(shared) -> None:
    data = pd.read_csv(shared / "data" / "Penicillin.csv")
    data["u"] = (7 * (np.arange(len(data)) + 1)) % 5
    of, _ = made("diameter ~ u + (1 | plate) + (1 | sample)", data)
    np.testing.assert_allclose(of.each(np.eye(2)), [5.564726652, 114.399468249], rtol=1e-6)
    np.testing.assert_allclose(of.covariance[1], [-0.002143080264, 0.001064150200], rtol=1e-6)


@pytest.mark.parametrize(
    ("formula", "data", "options"),
    [
        ("y ~ x + factor(z) + (x | a) + (1 | b)", crossed(), {"weights": "w"}),
        ("y ~ x + (1 | a:b) + (x || a)", crossed(), {}),
        ("y ~ management * seed + x + (1 | block / management)", split_plot(), {}),
        ("y ~ management + x", split_plot(), {}),
        ("y ~ x + (x | block)", split_plot().query("not (block == 2 and x > 0)"), {}),
    ],
)
def test_the_paper_with_dense_matrices(formula, data, options) -> None:
    of, fit = made(formula, data, **options)
    dense = dense_fit(fit)
    np.testing.assert_allclose(of.covariance, kenward_roger(fit.model, dense).adjusted, rtol=1e-8, atol=1e-12)
    P = fit.result.estimates.fixed
    for L in (np.eye(P)[[1]], np.eye(P), np.ones((1, P)), np.array([[1.0, -1.0] + [0.0] * (P - 2), np.eye(P)[1]])):
        wanted = kenward_roger_test(fit.model, dense, L)
        np.testing.assert_allclose(of.degrees(L), [wanted.denominator, wanted.scaling], rtol=1e-7)
        if len(L) > 1:
            found = fit.test(L, method="kenward-roger")
            assert found.statistic == pytest.approx(wanted.statistic, rel=1e-6)
            assert found.p == pytest.approx(wanted.p, rel=1e-5)


def test_a_singular_fit_keeps_its_components_as_pbkrtest_does() -> None:
    data = split_plot()
    levels = data.groupby(["block", "management"])["y"].transform("mean")
    data["y"] = data["y"] - levels + data["x"]
    of, fit = made("y ~ management + x + (1 | block / management)", data)
    assert fit.result.estimates.singular
    dense = dense_fit(fit)
    np.testing.assert_allclose(of.covariance, kenward_roger(fit.model, dense).adjusted, rtol=1e-9, atol=1e-13)
    for k in range(4):
        wanted = kenward_roger_test(fit.model, dense, np.eye(4)[[k]])
        assert of.degrees(np.eye(4)[[k]])[0] == pytest.approx(wanted.denominator, rel=1e-8)
    # the residual degrees of freedom would be wrong: whole plots are few
    assert of.each(np.eye(4))[1] < 15


def test_one_row_is_not_scaled_and_its_f_is_t_squared() -> None:
    of, fit = made("y ~ management + x + (x | block)", split_plot())
    m, scale = of.degrees(np.array([[0.0, 1.0, -1.0, 0.0]]))
    assert scale == pytest.approx(1.0, rel=1e-9)
    found = fit.test("management[b_graze] = management[c_mow]", method="kenward-roger")
    assert found.denominator_df == pytest.approx(m) and found.distribution == "t"
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.statistic), m), rel=1e-10)


@pytest.mark.parametrize("J", [9, 5])
def test_hotelling_t_squared_is_exact(J) -> None:
    """Rows of one multivariate sample of size J (balanced random coefficients): F(2, J − 2) with scale (J−2)/(J−1)."""
    rng = np.random.default_rng(12)
    x = np.arange(6.0)
    g = np.repeat(np.arange(J), 6)
    b = rng.normal(size=(J, 2)) * 2.0
    y = 1.0 + b[g, 0] + np.tile(x, J) * b[g, 1] + rng.normal(size=6 * J)
    data = {"y": y, "x": np.tile(x, J), "g": g}
    of, fit = made("y ~ x + (x | g)", data)
    found = fit.test(np.eye(2), method="kenward-roger")
    assert found.denominator_df == pytest.approx(J - 2, rel=1e-6)
    own = np.array([np.linalg.lstsq(np.column_stack([np.ones(6), x]), y[g == j], rcond=None)[0] for j in range(J)])
    T2 = J * own.mean(axis=0) @ np.linalg.solve(np.cov(own.T), own.mean(axis=0))
    assert found.statistic == pytest.approx(T2 * (J - 2) / (2 * (J - 1)), rel=1e-6)


def test_what_it_cannot_do() -> None:
    data = split_plot()
    fit = bayou.fit("y ~ x + (1 | block)", data, engine="ml", seed=1)
    with pytest.raises(Unsupported, match="engine='reml'"):
        fit.test("x", method="kenward-roger")


def test_a_dense_part_that_is_too_large(monkeypatch) -> None:
    fit = bayou.fit("y ~ x + (1 | a) + (1 | b)", crossed(), engine="reml", seed=1)
    monkeypatch.setattr(components, "LARGEST", 11)
    with pytest.raises(Unsupported, match="12 coefficients"):
        fit.test("x", method="kenward-roger")
