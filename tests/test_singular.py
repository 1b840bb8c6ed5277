"""Covariances at the border of their space: found exactly, said in words, and never claimed of an interior fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from bayou.engines.marginal.climb import climb, inverse_of_free
from bayou.engines.marginal.profile import Profile
from bayou.engines.marginal.singular import _lower, free, probe, snap
from bayou.model import Model
from dense_system import fitted, gaussian, table

ENGINES = ("ml", "reml", "laplace", "pql")


def alike(seed: int = 2, groups: int = 6, rows: int = 5) -> dict[str, np.ndarray]:
    """Groups whose means differ less than chance would have them, as in the second of Box and Tiao's dyestuffs."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    y = 5.0 + rng.normal(size=groups * rows)
    means = np.bincount(g, y) / rows
    return {"y": y - 0.7 * (means - means.mean())[g], "g": g, "x": rng.normal(size=groups * rows)}


def slopes(seed: int, cor: float, groups: int = 25, rows: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=groups * rows)
    b = rng.normal(size=(groups, 2))
    b[:, 1] = cor * b[:, 0] + np.sqrt(1 - cor**2) * b[:, 1]
    return {"y": 1.0 + b[g, 0] + 0.5 * b[g, 1] * x + rng.normal(size=groups * rows), "x": x, "g": g}


def largest(of: Profile, starts: int = 6) -> float:
    """The maximum of the profiled likelihood by a general optimiser without derivatives, from several starts."""
    rng = np.random.default_rng(1)
    best = np.inf
    for _ in range(starts):
        x = of.numbers.start() * rng.uniform(0.2, 1.5, of.numbers.size) + 0.3 * rng.normal(size=of.numbers.size)
        for _ in range(3):
            found = optimize.minimize(of.value, x, method="Nelder-Mead",
                                      options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000})  # fmt: skip
            x = found.x
        best = min(best, float(found.fun))
    return best


# ---- a variance of zero ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variance_of_zero_is_exactly_zero_and_said(engine):
    data = alike()
    fit = fitted("y ~ 1 + (1 | g)", data, engine)
    found = fit.result.estimates
    assert found.converged
    assert found.estimate[1] == 0.0
    n = len(data["y"])
    restricted = engine in ("reml", "pql")
    sigma = np.std(data["y"], ddof=1 if restricted else 0)
    np.testing.assert_allclose(found.estimate[[0, 2]], [data["y"].mean(), sigma], rtol=2e-6)  # gains of 1e-11
    np.testing.assert_allclose(found.se[0], sigma / np.sqrt(n), rtol=1e-5)
    assert np.isnan(found.se[1])
    assert len(found.singular) == 1 and found.singular[0].startswith("sd_g[Intercept] is zero, the border")
    assert not fit.verdict.ok and "singular" in str(fit.verdict)
    if engine in ("ml", "laplace"):
        plain = stats.norm.logpdf(data["y"], data["y"].mean(), sigma).sum()
        assert found.log_likelihood == pytest.approx(plain, abs=1e-9)
    mode, error = found.group_effects("g")
    np.testing.assert_array_equal(mode, 0.0)
    np.testing.assert_array_equal(error, 0.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_what_is_said_does_not_depend_on_the_unit(engine, unit):
    data = slopes(4, 0.0, groups=8, rows=4)
    one = fitted("y ~ x + (x | g)", data, engine).result.estimates
    other = fitted("y ~ x + (x | g)", {**data, "y": unit * data["y"]}, engine).result.estimates
    assert other.singular == one.singular
    third = fitted("y ~ x + (x | g)", {**data, "x": unit * data["x"]}, engine).result.estimates
    assert third.singular == one.singular


@pytest.mark.parametrize("sd", [0.1, 0.2, 0.4])
def test_an_interior_fit_is_never_snapped(sd):
    """However small the sd: zero is claimed only where the likelihood is largest there."""
    interior = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        g = np.repeat(np.arange(20), 10)
        data = {"y": sd * rng.normal(size=20)[g] + rng.normal(size=200), "g": g}
        for engine in ("ml", "reml"):
            found = fitted("y ~ 1 + (1 | g)", data, engine).result.estimates
            # balanced data: the estimate is known
            means = np.bincount(g, data["y"]) / 10
            within = np.sum((data["y"] - means[g]) ** 2) / 180
            between = 10 * np.sum((means - means.mean()) ** 2) / (20 if engine == "ml" else 19)
            variance = max((between - within) / 10, 0.0)
            assert (found.estimate[1] == 0.0) == (variance == 0.0)
            assert bool(found.singular) == (variance == 0.0)
            if variance:
                interior += 1
                assert found.estimate[1] == pytest.approx(np.sqrt(variance), rel=1e-4)
    assert interior >= 5


# ---- correlations of one ---------------------------------------------------------------------


@pytest.mark.parametrize("cor", [-1.0, 1.0])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_correlation_of_one_is_exact_and_its_direction_named(engine, cor):
    fit = fitted("y ~ x + (x | g)", slopes(4, cor), engine)
    found = fit.result.estimates
    at = found.rows.index("cor_g[Intercept,x]")
    assert found.converged
    assert found.estimate[at] == pytest.approx(cor, abs=1e-12)
    assert np.isnan(found.se[at]) and np.isfinite(np.delete(found.se, at)).all()
    (said,) = found.singular
    assert said.startswith("The covariance of (Intercept, x) by g is singular")
    assert "(… || g)" in said
    # the direction without variance: weights times the sds cancel
    assert (" + " if cor < 0 else "− ") in said.split("singular: ")[1].split(" (each")[0]
    assert not fit.verdict.ok


@pytest.mark.parametrize("restricted", [False, True])
def test_the_border_is_the_maximum(restricted):
    """Nelder and Mead's method from many starts finds nothing better; every slope along the border is zero."""
    for seed, cor in ((0, 1.0), (4, -1.0)):
        of = Profile(Model("y ~ x + (x | g)", slopes(seed, cor)), restricted)
        state, _ = of.minimise(of.start())
        psi = snap(of.value, of.numbers, state.x, 0, of.value(state.x))
        assert psi[-1] == 0.0
        assert of.value(psi) <= largest(of) + 1e-9
        _, gradient = of.evaluate(psi)
        assert np.abs(gradient).max() < 1e-3


def test_three_coefficients_of_rank_one():
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(30), 10)
    x, z, b = rng.normal(size=300), rng.normal(size=300), rng.normal(size=30)[g]
    data = {"y": b * (1.0 + 0.6 * x - 0.8 * z) + 0.5 * rng.normal(size=300), "x": x, "z": z, "g": g}
    for engine in ("ml", "reml"):
        fit = fitted("y ~ x + z + (x + z | g)", data, engine)
        found = fit.result.estimates
        assert found.converged and len(found.singular) == 1
        assert "(Intercept, x, z)" in found.singular[0]
        of = Profile(fit.model, engine == "reml")
        assert -found.log_likelihood <= largest(of, 3) + 1e-6
        sds = found.estimate[3:6]
        assert (sds > 0.1).all()
        fixed = ["beta" in name for name in found.rows]
        assert np.isfinite(found.se[fixed]).all()


def test_two_variances_of_zero_beside_one_that_is_not():
    rng = np.random.default_rng(8)
    data = {**table(), "y": rng.normal(size=48)}
    data["y"] = data["y"] + 1.5 * rng.normal(size=8)[data["g"]]
    found = fitted("y ~ x + (1 | g) + (1 | h) + (1 | k)", data, "reml").result.estimates
    zero = [name for name, x in zip(found.rows, found.estimate, strict=True) if x == 0.0]
    assert len(found.singular) == len(zero) >= 1
    for name, said in zip(zero, found.singular, strict=True):
        assert said.startswith(f"{name} is zero")
    assert np.isfinite(found.se[found.estimate != 0.0]).all()


# ---- the parts -------------------------------------------------------------------------------


def test_a_border_that_is_a_saddle_is_left():
    """Begun at exactly zero, where the likelihood's slope vanishes, it still climbs to the interior maximum."""
    of = Profile(Model("y ~ x + (x | g)", slopes(3, 0.3)), True)
    best, _ = of.minimise(of.start())
    found = climb(of.evaluate, of.numbers, 0, np.zeros(of.numbers.size), np.eye(of.numbers.size))
    assert found.converged
    assert found.value == pytest.approx(best.facts[0], abs=1e-8)
    assert probe(of.value, of.numbers, best.x, 0, float(best.facts[0])) is None
    half = best.x.copy()
    half[of.numbers.row == 1] = 0.0  # no slope variance: a saddle too
    away = probe(of.value, of.numbers, half, 0, of.value(half))
    assert away is not None and of.value(away) < of.value(half)


def test_one_covariance_has_one_factor(rng):
    for p in (1, 2, 3, 4):
        for rank in range(p + 1):
            root = rng.normal(size=(p, rank)) @ rng.normal(size=(rank, p)) if rank else np.zeros((p, p))
            L = _lower(root)
            np.testing.assert_allclose(L @ L.T, root @ root.T, atol=1e-12)
            assert (np.diag(L) >= 0.0).all() and (np.triu(L, 1) == 0.0).all()
            assert (L[:, np.diag(L) == 0.0] == 0.0).all()
            turned = np.linalg.qr(rng.normal(size=(p, p)))[0]
            np.testing.assert_allclose(_lower(root @ turned), L, atol=1e-12)
    first = np.array([[0.0, 0.0], [0.3, 0.4]])
    np.testing.assert_allclose(_lower(first), [[0.0, 0.0], [0.0, 0.5]], atol=1e-15)


def test_an_interior_point_comes_back_with_its_signs_turned_only(rng):
    of = Profile(Model("y ~ x + (x | g)", slopes(3, 0.3)), False)
    psi = np.array([-0.8, 0.2, 0.5])
    settled = snap(of.value, of.numbers, psi, 0, of.value(psi))
    np.testing.assert_allclose(settled, [0.8, -0.2, 0.5], rtol=1e-14)
    assert of.value(settled) == pytest.approx(of.value(psi), abs=1e-12)


def test_which_parameters_a_likelihood_bends_in():
    of = Profile(Model("y ~ x + z + (x + z | g) + (1 | h)", table()), False)
    psi = np.ones(of.numbers.size)
    assert free(of.numbers, psi).all()
    own = of.numbers.factor == of.numbers.factor[of.numbers.row == 2][0]
    psi[own & (of.numbers.row == 1)] = 0.0
    lost = own & (of.numbers.row == 2) & (of.numbers.column == 1)
    np.testing.assert_array_equal(free(of.numbers, psi), ~lost)
    np.testing.assert_array_equal(free(of.numbers, np.append(0.0, psi), 1), np.append(True, ~lost))
    H = np.diag([2.0, 0.0, 4.0])
    np.testing.assert_allclose(inverse_of_free(H, np.array([True, False, True])), np.diag([0.5, 0.0, 0.25]))
    assert np.isnan(inverse_of_free(H, np.ones(3, dtype=bool))).all()


def test_the_dense_likelihood_agrees_at_the_border():
    data = slopes(4, 1.0)
    fit = fitted("y ~ x + (x | g)", data, "ml")
    found = fit.result.estimates
    sd, cor, sigma = found.estimate[2:4], found.estimate[4], found.estimate[5:]
    Sigma = np.outer(sd, sd) * np.array([[1.0, cor], [cor, 1.0]])
    value, beta, _ = gaussian(fit.model, [Sigma], sigma, False)
    assert found.log_likelihood == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(found.estimate[:2], beta, rtol=1e-7)
