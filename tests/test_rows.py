"""The row kernels against the plain NumPy statements of the families."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bayou._types import Array
from bayou.families import (
    Binomial,
    Family,
    Gamma,
    Gaussian,
    NegativeBinomial,
    Poisson,
    codes,
    elementary,
    rows,
)
from bayou.jit import kernel

FAMILIES = [
    Gaussian(), Gaussian(link="log"), Binomial(), Binomial(link="probit"), Binomial(link="cloglog"),
    Poisson(), NegativeBinomial(), Gamma(),
]  # fmt: skip
DISPERSION = {None: 1.0, "sigma": 0.8, "phi": 3.7, "shape": 2.1}


def outcomes(family: Family, n: int, seed: int = 1) -> tuple[Array, Array, Array, Array]:
    """y, trials, weights and eta: plausible, with every tail in reach."""
    rng = np.random.default_rng(seed)
    eta = rng.normal(0.0, 2.0, n)
    trials = np.ones(n)
    if family.name == "binomial":
        trials = rng.integers(0, 9, n).astype(float)
    y = family.sample(rng, eta, DISPERSION[family.dispersion], trials)
    if family.name == "gamma":
        y = np.maximum(y, 1e-200)
    return y, trials, rng.uniform(0.2, 2.0, n), eta + rng.normal(0.0, 0.5, n)


def terms(family: Family, y: Array, trials: Array, weights: Array, eta: Array, d: float) -> tuple[float, Array, Array]:
    gradient, curvature = np.full(len(y), np.nan), np.full(len(y), np.nan)
    work = np.full(rows.LANES, np.nan)
    value = rows.row_terms(family.code, y, trials, weights, eta, d, gradient, curvature, work)
    again = rows.row_log_density(family.code, y, trials, weights, eta, d, work)
    assert again == pytest.approx(value, rel=1e-15)  # the compiler may fuse other multiplications
    return value, gradient, curvature


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 511, 512, 513, 2000])
def test_terms_are_those_of_the_family(family: Family, n: int) -> None:
    y, trials, weights, eta = outcomes(family, n)
    d = DISPERSION[family.dispersion]
    value, gradient, curvature = terms(family, y, trials, weights, eta, d)
    magnitude = np.maximum(y, trials) * weights
    for got, want in (
        (gradient, family.gradient(y, eta, d, trials, weights)),
        (curvature, family.curvature(y, eta, d, trials, weights)),
    ):
        np.testing.assert_allclose(got, want, rtol=2e-13, atol=1e-15 * magnitude.max())
    elsewhere = eta + np.sin(np.arange(n))
    moved, _, _ = terms(family, y, trials, weights, elsewhere, d)
    step = family.log_density(y, elsewhere, d, trials, weights) - family.log_density(y, eta, d, trials, weights)
    assert moved - value == pytest.approx(math.fsum(step), rel=1e-11, abs=1e-11 * n)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_far_tails_and_large_counts(family: Family) -> None:
    eta = np.array([-700.0, -300.0, -40.0, -6.01, -5.99, -1e-9, 0.0, 0.3, 5.99, 6.01, 27.6, 45.0, 300.0, 700.0])
    one = np.ones_like(eta)
    cases = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (2.0, 5.0), (5e11, 1e12), (1e12, 1e12)]
    if family.name == "gaussian":
        cases = [(-3.0, 1.0), (0.5, 1.0)]
    elif family.name == "gamma":
        cases = [(1e-300, 1.0), (0.3, 1.0), (1e300, 1.0)]
    for dispersion in (1e-3, 1.0, 1e12) if family.dispersion in ("phi", "shape") else (1.0,):
        for outcome, count in cases:
            y, trials = outcome * one, count * one
            _, gradient, curvature = terms(family, y, trials, one, eta, dispersion)
            want = family.gradient(y, eta, dispersion, trials), family.curvature(y, eta, dispersion, trials)
            np.testing.assert_allclose(gradient, want[0], rtol=1e-12, atol=1e-15 * max(outcome, count, 1e-285))
            np.testing.assert_allclose(curvature, want[1], rtol=1e-12, atol=1e-300)
            each_row = [slice(i, i + 1) for i in range(len(eta))]
            at = np.array([terms(family, y[i], trials[i], one[i], eta[i], dispersion)[0] for i in each_row])
            full = family.log_density(y, eta, dispersion, trials)
            finite = np.isfinite(full)  # exp(1390) is not: minus infinity is then right
            np.testing.assert_array_equal(at[~finite], full[~finite])
            at, full = at[finite], full[finite]
            size = 1e-12 * np.abs(full - full[0]) + 1e-14 * (np.abs(full) + abs(full[0])) + 1e-12
            np.testing.assert_array_less(np.abs((at - at[0]) - (full - full[0])), size)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_dispersion_ratios_are_those_of_the_density(family: Family) -> None:
    y, trials, weights, eta = outcomes(family, 60)
    weights[3] = 0.0
    if family.name == "negative_binomial":
        y[:3] = [15.0, 16.0, 1e6]
    values = [1e-3, 0.4, 1.0, 15.9, 16.1, 300.0, 1e12] if family.dispersion in ("phi", "shape") else [0.3, 2.5]
    full = [math.fsum(family.log_density(y, eta, d, trials, weights)) for d in values]
    kernels = [rows.row_dispersion(family.code, y, trials, weights, eta, d) for d in values]
    np.testing.assert_allclose(np.diff(kernels), np.diff(full), rtol=1e-10, atol=1e-8)


def test_dispersion_tends_to_the_poisson() -> None:
    rng = np.random.default_rng(2)
    y, eta, one = rng.poisson(3.0, 50).astype(float), rng.normal(1.0, 0.3, 50), np.ones(50)
    code = codes.NEGATIVE_BINOMIAL_LOG
    far, near = (rows.row_dispersion(code, y, one, one, eta, phi) for phi in (1e12, 1e6))
    poisson = rows.row_dispersion(codes.POISSON_LOG, y, one, one, eta, 1.0)
    assert far == pytest.approx(poisson, abs=1e-9)
    # to first order in 1/phi: sum of (y (y - 1) - 2 y mu + mu**2) / (2 phi)
    mu = np.exp(eta)
    expected = np.sum(y * (y - 1) - 2 * y * mu + mu**2) / 2e6
    assert near - poisson == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_means(family: Family) -> None:
    eta = np.concatenate([np.linspace(-700, 700, 101), np.linspace(-4, 4, 37)])
    out = np.empty_like(eta)
    rows.row_means(family.code, eta, out)
    np.testing.assert_allclose(out, family.mean(eta), rtol=1e-12, atol=1e-320)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_nan_is_never_swallowed(family: Family) -> None:
    for outcome in (1.0, 0.0 if family.name != "gamma" else 2.0):
        for n in (1, 40):
            eta, y, one = np.zeros(n), np.full(n, outcome), np.ones(n)
            eta[n // 2] = np.nan
            gradient, curvature = np.empty(n), np.empty(n)
            value = rows.row_terms(family.code, y, one, one, eta, 1.0, gradient, curvature, np.empty(rows.LANES))
            assert np.isnan(value)
            assert np.isnan(gradient[n // 2])
            assert np.isfinite(gradient[np.arange(n) != n // 2]).all()


def test_no_rows() -> None:
    empty, work = np.empty(0), np.empty(rows.LANES)
    for code in range(8):
        assert rows.row_terms(code, empty, empty, empty, empty, 1.0, empty, empty, work) == 0.0
        assert rows.row_log_density(code, empty, empty, empty, empty, 1.0, work) == 0.0
        assert rows.row_dispersion(code, empty, empty, empty, empty, 1.0) == 0.0


def test_rows_outside_a_slice_stay_as_they_are() -> None:
    y, trials, weights, eta = outcomes(Poisson(), 30)
    gradient, curvature, work = np.full(30, 7.0), np.full(30, 7.0), np.empty(rows.LANES)
    cut = slice(10, 14)
    rows.row_terms(
        codes.POISSON_LOG,
        y[cut],
        trials[cut],
        weights[cut],
        eta[cut],
        1.0,
        gradient[cut],
        curvature[cut],
        work,
    )
    assert np.all(gradient[:10] == 7.0)
    assert np.all(curvature[14:] == 7.0)
    np.testing.assert_allclose(gradient[cut], Poisson().gradient(y, eta, weights=weights)[cut])


@kernel
def sum_by_group(
    starts: Array, y: Array, eta: Array, one: Array, gradient: Array, curvature: Array, work: Array
) -> float:
    total = 0.0
    for g in range(len(starts) - 1):
        a, b = starts[g], starts[g + 1]
        total += rows.row_terms(5, y[a:b], one[a:b], one[a:b], eta[a:b], 1.0, gradient[a:b], curvature[a:b], work)
    return total


def test_groups_add_up_inside_a_kernel() -> None:
    y, trials, _, eta = outcomes(Poisson(), 700)
    starts = np.array([0, 1, 3, 3, 20, 600, 700])
    gradient, curvature, work = np.empty(700), np.empty(700), np.empty(rows.LANES)
    total = sum_by_group(starts, y, eta, np.ones(700), gradient, curvature, work)
    whole, slope, bend = terms(Poisson(), y, np.ones(700), np.ones(700), eta, 1.0)
    assert total == pytest.approx(whole, rel=1e-14)
    np.testing.assert_allclose(gradient, slope, rtol=1e-15)
    np.testing.assert_allclose(curvature, bend, rtol=1e-15)


@kernel
def each(which: int, x: Array, out: Array) -> None:
    for i in range(len(x)):
        if which == 0:
            out[i] = elementary.exp(x[i])
        elif which == 1:
            out[i] = elementary.exp_parts(x[i])[1]
        elif which == 2:
            out[i] = elementary.log(x[i])
        else:
            out[i] = elementary.log1p_unit(x[i])


def apply(which: int, x: Array) -> Array:
    out = np.empty_like(x)
    each(which, x, out)
    return out


def test_elementary_functions_are_within_two_roundings() -> None:
    x = np.concatenate([np.linspace(-708.0, 709.7, 20_001), np.linspace(-1.0, 1.0, 5001)])
    np.testing.assert_allclose(apply(0, x), np.exp(x), rtol=5e-16)
    positive = np.exp(x)
    np.testing.assert_allclose(apply(2, positive), np.log(positive), rtol=5e-16, atol=0)
    t = np.concatenate([np.linspace(0.0, 1.0, 10_001), np.exp(-np.linspace(1.0, 700.0, 500))])
    np.testing.assert_allclose(apply(3, t), np.log1p(t), rtol=5e-16, atol=0)
    d = np.array([1e-9, -1e-9, 1e-4, 0.3, -0.34, 0.36, 3.0, -900.0])
    want = [d[0] ** 2 / 2, d[1] ** 2 / 2, 5.000166670833417e-09, *(np.expm1(d[3:]) - d[3:])]
    np.testing.assert_allclose(apply(1, d), want, rtol=2e-9)
    np.testing.assert_allclose(apply(1, d[2:]), want[2:], rtol=2e-15)


def test_elementary_functions_at_the_ends_of_the_doubles() -> None:
    out = apply(0, np.array([-np.inf, -800.0, -745.0, -720.0, 710.0, 1e9, np.inf, np.nan]))
    np.testing.assert_array_equal(out[[0, 1, 4, 5, 6]], [0.0, 0.0, np.inf, np.inf, np.inf])
    np.testing.assert_allclose(out[2:4], [5e-324, 2.03223080241e-313], rtol=1e-9)
    assert np.isnan(out[7])
    tiny = np.array([5e-324, 1e-310, 2.2e-308, 1.7e308])
    np.testing.assert_allclose(apply(2, tiny), np.log(tiny), rtol=1e-15)
