"""Satterthwaite's degrees of freedom: R's lmerTest, dense matrices, and cases with an exact answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayou
from bayou.errors import Unsupported
from bayou.inference import satterthwaite
from bayou.inference.satterthwaite import Satterthwaite
from dense_inference import satterthwaite as dense
from small_samples import crossed, dense_fit, split_plot


def degrees(fit) -> np.ndarray:
    return fit.fixed_effects["df"].to_numpy()


def test_lmertest_sleepstudy(shared) -> None:
    data = pd.read_csv(shared / "data" / "sleepstudy.csv")
    for formula, engine, wanted in [
        ("Reaction ~ Days + (Days | Subject)", "reml", [17.0, 17.0]),
        ("Reaction ~ Days + (Days | Subject)", "ml", [18.0, 18.0]),
        ("Reaction ~ Days + (Days || Subject)", "reml", [18.15620223, 18.15620201]),
    ]:
        fit = bayou.fit(formula, data, engine=engine, seed=1)
        np.testing.assert_allclose(degrees(fit), wanted, rtol=2e-6)
    fit = bayou.fit("Reaction ~ Days + (Days | Subject)", data, engine="reml", seed=1)
    found = fit.test(np.eye(2))
    assert found.statistic == pytest.approx(749.9597248, rel=1e-6)
    assert found.denominator_df == pytest.approx(17.0, rel=1e-5)


def test_lmertest_oats_split_plot(shared) -> None:
    """Balanced: 10 degrees for whole plots, 45 for sub-plots, as in the analysis of variance by hand."""
    data = pd.read_csv(shared / "data" / "Oats.csv")
    fit = bayou.fit("yield ~ factor(nitro) * Variety + (1 | Block / Variety)", data, engine="reml", seed=1)
    table = fit.anova()
    np.testing.assert_allclose(table["denominator_df"], [45, 10, 45], rtol=2e-6)
    np.testing.assert_allclose(table["F"], [37.68565, 1.48534, 0.30282], rtol=2e-5)
    np.testing.assert_allclose(degrees(fit)[[0, 1, 4]], [16.08204872, 45.0, 30.23078312], rtol=5e-6)


def test_lmertest_unbalanced_split_plot() -> None:
    fit = bayou.fit("y ~ management * seed + x + (1 | block / management)", split_plot(), engine="reml", seed=1)
    wanted = [23.15485771, 18.63968325, 19.78874291, 30.04371792, 29.85002354, 30.30149657, 34.31609940, 30.04433096]
    np.testing.assert_allclose(degrees(fit)[:8], wanted, rtol=2e-6)
    found = fit.test("management:seed")
    assert found.denominator_df == pytest.approx(30.249285, rel=2e-6)
    assert found.statistic == pytest.approx(0.44212, rel=1e-5) and found.p == pytest.approx(0.8447083, rel=1e-6)
    fit = bayou.fit("y ~ management * seed + x + (1 | block / management)", split_plot(), engine="ml", seed=1)
    np.testing.assert_allclose(degrees(fit)[:4], [26.8710924, 21.6648762, 23.0224795, 39.8557794], rtol=2e-6)
    fit = bayou.fit("y ~ management + x + (x | block)", split_plot(), engine="reml", seed=1)
    np.testing.assert_allclose(degrees(fit), [8.34082762, 46.72242991, 48.07285904, 3.13173060], rtol=1e-5)


@pytest.mark.parametrize("engine", ["reml", "ml"])
def test_dense_matrices_agree(engine) -> None:
    """Crossed factors, a correlated slope, weights, in n x n matrices."""
    fit = bayou.fit("y ~ x + factor(z) + (x | a) + (1 | b)", crossed(), weights="w", engine=engine, seed=1)
    assert not fit.result.estimates.singular
    same = dense_fit(fit)
    wanted = [dense(fit.model, same, row[None], engine == "reml").denominator for row in np.eye(4)]
    np.testing.assert_allclose(degrees(fit), wanted, rtol=2e-5)
    several = dense(fit.model, same, np.eye(4)[1:], engine == "reml")
    found = fit.test(np.eye(4)[1:])
    assert found.denominator_df == pytest.approx(several.denominator, rel=2e-5)
    assert found.statistic == pytest.approx(several.statistic, rel=1e-7)


def test_least_squares_has_the_residual_degrees() -> None:
    data = split_plot()
    fit = bayou.fit("y ~ management + x", data, engine="reml", seed=1)
    np.testing.assert_allclose(degrees(fit), len(data) - 4, rtol=1e-12)
    assert fit.test("management").denominator_df == pytest.approx(len(data) - 4)


def test_a_singular_fit_has_the_degrees_of_the_model_without_what_vanished() -> None:
    data = split_plot()
    levels = data.groupby(["block", "management"])["y"].transform("mean")
    data["y"] = data["y"] - levels + data["x"]
    with_groups = bayou.fit("y ~ management + x + (1 | block / management)", data, engine="reml", seed=1)
    assert len(with_groups.result.estimates.singular) == 2
    np.testing.assert_allclose(degrees(with_groups), len(data) - 4, rtol=1e-9)


def test_an_intercept_without_variance_beside_a_slope_with_some() -> None:
    """The factor may turn without the likelihood seeing it; the answer is that of the slope alone."""
    rng = np.random.default_rng(8)
    g, x = np.repeat(np.arange(12), 8), rng.normal(size=96)
    noise = rng.normal(size=96)
    noise -= (np.bincount(g, noise) / 8)[g]
    y = 1.0 + x * (1.0 + rng.normal(size=12)[g]) + noise
    data = {"y": y, "x": x, "g": g}
    both = bayou.fit("y ~ x + (1 | g) + (0 + x | g)", data, engine="reml", seed=1)
    slope = bayou.fit("y ~ x + (0 + x | g)", data, engine="reml", seed=1)
    assert both.result.estimates.singular
    np.testing.assert_allclose(degrees(both), degrees(slope), rtol=1e-4)
    whole = bayou.fit("y ~ x + (x | g)", data, engine="reml", seed=1)
    assert np.isfinite(degrees(whole)).all() and (degrees(whole) > 5).all()


def test_directions_that_the_likelihood_does_not_see_have_no_variance(rng) -> None:
    """A curvature without one direction (or with rounding's sign there) is inverted on the others."""
    A = rng.normal(size=(4, 3))
    H = A @ A.T * np.outer([1, 10, 0.1, 5], [1, 10, 0.1, 5])
    flat = np.linalg.svd(H)[0][:, 3]
    for noise in (1e-12, -1e-12):
        found = satterthwaite._seen_inverse(H + noise * np.outer(flat, flat))
        assert np.abs(found).max() < 1e4
        np.testing.assert_allclose(H @ found @ H, H, rtol=1e-6, atol=1e-9)
    whole = H + np.eye(4)
    np.testing.assert_allclose(satterthwaite._seen_inverse(whole), np.linalg.inv(whole), rtol=1e-9)


def test_roots_of_singular_covariances() -> None:
    for L in (np.array([[2.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 3.0]]), np.zeros((2, 2))):
        np.testing.assert_allclose(satterthwaite._root(L @ L.T), L, atol=1e-12)


def test_units_do_not_matter() -> None:
    data = split_plot()
    fit = bayou.fit("y ~ management + x + (x | block)", data, engine="reml", seed=1)
    moved = data.assign(y=1e3 * data["y"], x=1e-2 * (data["x"] + 0.5))
    again = bayou.fit("y ~ management + x + (x | block)", moved, engine="reml", seed=1)
    keep = [1, 2, 3]  # the intercept is another quantity
    np.testing.assert_allclose(degrees(again)[keep], degrees(fit)[keep], rtol=1e-3)


def test_the_same_hypothesis_written_otherwise_has_the_same_degrees() -> None:
    fit = bayou.fit("y ~ management * seed + x + (1 | block / management)", split_plot(), engine="reml", seed=1)
    one = fit.test("seed[s2] = 0, seed[s3] = 0, seed[s4] = 0")
    other = fit.test("5*seed[s2] - seed[s3] = 0, seed[s3] = seed[s4], seed[s2] + seed[s3] + seed[s4] = 0")
    assert other.denominator_df == pytest.approx(one.denominator_df, rel=1e-9)
    assert other.statistic == pytest.approx(one.statistic, rel=1e-9)


def test_nothing_is_computed_until_it_is_asked_for(monkeypatch) -> None:
    calls = []
    real = satterthwaite._curvature
    monkeypatch.setattr(satterthwaite, "_curvature", lambda *given: calls.append(1) or real(*given))
    fit = bayou.fit("y ~ x + (1 | block)", split_plot(), engine="reml", seed=1)
    fit.log_likelihood, fit.random_effects("block"), fit.result.draws.keys()
    assert not calls
    fit.fixed_effects, str(fit)
    assert len(calls) == 1


def test_rows_of_the_fit_and_of_a_loaded_one_agree(tmp_path) -> None:
    fit = bayou.fit("y ~ management + x + (x | block)", split_plot(), engine="reml", seed=1)
    again = bayou.load(fit.save(tmp_path / "fit.nc"))
    np.testing.assert_allclose(degrees(again), degrees(fit), rtol=1e-12)
    assert again.test("management").denominator_df == pytest.approx(fit.test("management").denominator_df, rel=1e-8)
    made = Satterthwaite(fit.model, fit.result.estimates)
    np.testing.assert_allclose(made.each(np.eye(4)), degrees(fit), rtol=1e-7)
    np.testing.assert_allclose(made.covariance, fit.result.estimates.beta_covariance, rtol=1e-9)


def test_small_degrees_of_freedom_of_several_rows() -> None:
    """A row with at most two gives the whole test two; equal ones give theirs; infinite ones do not count."""
    made = Satterthwaite.__new__(Satterthwaite)
    made.covariance = np.eye(2)
    for nu, wanted in [((1.5, 9.0), 2.0), ((7.0, 7.0), 7.0), ((np.inf, np.inf), np.inf)]:
        # slopes e_k e_k' with variances that give each row its own degrees
        made._slopes = np.array([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])
        made._A = np.diag(2.0 / np.array(nu))
        df, scale = made.degrees(np.eye(2))
        assert df == pytest.approx(wanted) and scale == 1.0
    nu = np.array([5.0, 12.0])
    made._A = np.diag(2.0 / nu)
    mean = (nu / (nu - 2)).sum() / 2  # of F: the average of means of t²
    df, _ = made.degrees(np.eye(2))
    assert df / (df - 2) == pytest.approx(mean)


def test_fits_that_it_does_not_belong_to() -> None:
    data = split_plot()
    cases = [
        (bayou.fit("y ~ x + (1 | block)", data, engine="reml", sigma_by="seed", seed=1), "sigma_by"),
        (bayou.fit("y ~ x + (1 | block)", data, engine="ml", priors={"beta": bayou.priors.Normal(0, 9)}, seed=1), "priors"),
        (bayou.fit("y ~ x + (1 | block)", data, engine="laplace", seed=1), "Laplace"),
    ]
    for fit, words in cases:
        with pytest.raises(Unsupported, match=words):
            fit.test("x", method="satterthwaite")
        assert fit.test("x").distribution == "z"
