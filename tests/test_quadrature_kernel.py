"""Adaptive quadrature against brute force: integrals on dense grids, gradients by finite differences."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import integrate, special, stats

from bayou.conditional.hermite import hermite_grid, hermite_rule
from bayou.conditional.levels import FactorRows, Levels, new_level_work, new_levels
from bayou.conditional.quadrature import quadrature
from bayou.families import codes
from bayou.families.rows import row_dispersion, row_log_density
from bayou.packed import packed

CODES = {
    "gaussian": codes.GAUSSIAN_IDENTITY, "gaussian log": codes.GAUSSIAN_LOG, "logit": codes.BINOMIAL_LOGIT,
    "probit": codes.BINOMIAL_PROBIT, "cloglog": codes.BINOMIAL_CLOGLOG, "poisson": codes.POISSON_LOG,
    "negative binomial": codes.NEGATIVE_BINOMIAL_LOG, "gamma": codes.GAMMA_LOG,
}  # fmt: skip
DISPERSED = ("gaussian", "gaussian log", "negative binomial", "gamma")
PHI = 1.3


class Case(NamedTuple):
    name: str
    rows: FactorRows
    T: np.ndarray


def log_density(name, y, trials, eta, phi):
    """The terms that depend on eta, written out once more with scipy's functions."""
    if name.startswith("gaussian"):
        return -0.5 * ((y - (np.exp(eta) if "log" in name else eta)) / phi) ** 2
    if name == "logit":
        return y * special.log_expit(eta) + (trials - y) * special.log_expit(-eta)
    if name == "probit":
        return y * special.log_ndtr(eta) + (trials - y) * special.log_ndtr(-eta)
    if name == "cloglog":
        return special.xlogy(y, -np.expm1(-np.exp(eta))) - (trials - y) * np.exp(eta)
    if name == "poisson":
        return y * eta - np.exp(eta)
    if name == "negative binomial":
        return y * (eta - np.log(phi)) - (y + phi) * np.log1p(np.exp(eta) / phi)
    return -phi * (y * np.exp(-eta) - 1.0 - np.log(y) + eta)


def case(name, p, seed=1, sizes=(3, 0, 8, 5, 1, 7), spread=0.6, bernoulli=False):
    rng = np.random.default_rng(seed)
    sizes = np.array(sizes)
    n, group = sizes.sum(), np.repeat(np.arange(len(sizes)), sizes)
    Z = np.column_stack([np.ones(n), rng.uniform(-1.5, 1.5, (n, p - 1))])
    T = np.tril(spread * rng.uniform(0.5, 1.0, (p, p)) * rng.choice([-1, 1], (p, p)))
    fixed = rng.normal(0.0, 0.5, n)
    eta = fixed + np.einsum("ik,ik->i", Z, (rng.standard_normal((len(sizes), p)) @ T.T)[group])
    trials = np.ones(n) if bernoulli else rng.integers(1, 7, n).astype(float)
    if name in ("logit", "probit", "cloglog"):
        y = rng.binomial(trials.astype(int), special.expit(eta)).astype(float)
    elif name in ("poisson", "negative binomial"):
        y = rng.poisson(np.exp(eta)).astype(float)
    elif name == "gamma":
        y = np.exp(eta) * rng.gamma(2.0, 0.5, n)
    else:
        y = (np.exp(eta) if "log" in name else eta) + 0.7 * rng.standard_normal(n)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    weights = np.ones(n) if bernoulli else rng.uniform(0.5, 1.5, n)
    return Case(name, FactorRows(CODES[name], start, y, trials, weights, fixed, np.ascontiguousarray(Z)), T)


def evaluate(one, nodes, phi=PHI, levels=None, part=None, slopes=True):
    """Value and derivatives (eta, T, log dispersion by row), and the levels as they were left."""
    p, n, J = one.T.shape[0], len(one.rows.y), len(one.rows.row_start) - 1
    levels = levels or new_levels(J, p)
    d_eta, d_T, d_phi = np.zeros(n), np.zeros((p, p)), np.zeros(n)
    value = quadrature(
        packed(one.rows), *hermite_grid(nodes, p), np.ascontiguousarray(one.T), phi, *(part or (0, J)),
        packed(levels), packed(new_level_work(one.rows.row_start, p)), slopes, d_eta, d_T, d_phi,
    )  # fmt: skip
    return value, d_eta, d_T, d_phi, levels


def brute_force(one, phi=PHI):
    """The integrals over u: scipy's quad for one dimension, else the trapezoid rule on a dense grid.

    For integrands of this kind that rule errs by exp(−2 pi² (sd / step)²): nothing, with sds above .35 and step .2.
    """
    rows, p, total = one.rows, one.T.shape[0], 0.0
    for low, high in zip(rows.row_start[:-1], rows.row_start[1:], strict=True):
        part = slice(low, high)
        y, trials, weights, A = rows.y[part], rows.trials[part], rows.weights[part], rows.Z[part] @ one.T

        def joint(u, A=A, y=y, trials=trials, weights=weights, fixed=rows.fixed[part]):
            eta = fixed + u @ A.T
            return log_density(one.name, y, trials, eta, phi) @ weights - 0.5 * (u * u).sum(-1)

        if p == 1:
            grid = np.linspace(-9.0, 9.0, 901)[:, None]
            peak, middle = joint(grid).max(), grid[joint(grid).argmax(), 0]
            within = np.clip(middle + np.array([-1.0, 0.0, 1.0]), -11.5, 11.5)
            integral = integrate.quad(
                lambda u, joint=joint, peak=peak: np.exp(joint(np.array([u])) - peak),
                -12.0, 12.0, points=within, epsabs=0.0, epsrel=1e-12, limit=400,
            )[0]  # fmt: skip
            total += peak + np.log(integral)
        else:
            axis, step = np.linspace(-7.0, 7.0, 71, retstep=True)
            grid = np.stack(np.meshgrid(*[axis] * p, indexing="ij"), -1).reshape(-1, p)
            total += special.logsumexp(joint(grid)) + p * np.log(step)
        total -= 0.5 * p * np.log(2.0 * np.pi)
    return total


@pytest.mark.parametrize("nodes", [1, 2, 3, 9, 25, 60, 61, 120])
def test_rule(nodes):
    x, log_weights = hermite_rule(nodes)
    weights = np.exp(log_weights - 0.5 * x * x)
    reference, of_reference = special.roots_hermitenorm(nodes)
    np.testing.assert_allclose(x, reference, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(weights, of_reference / np.sqrt(2.0 * np.pi), rtol=1e-10)


def test_rule_at_its_largest():
    x, log_weights = hermite_rule(501)
    assert np.isfinite(log_weights).all()
    # between neighbours that lie pi / sqrt(n) apart the weights times exp(x²/2) are steps of a Riemann sum
    np.testing.assert_allclose(np.exp(log_weights[250]) * np.sqrt(2 * np.pi), x[251] - x[250], rtol=1e-3)
    with pytest.raises(ValueError, match="1 to 501 nodes, not 502"):
        hermite_rule(502)


@pytest.mark.parametrize("name", [n for n in CODES if n != "gaussian log"])
@pytest.mark.parametrize("p,nodes,tolerance", [(1, 31, 1e-9), (2, 25, 1e-8), (3, 15, 2e-6)])
def test_integral(name, p, nodes, tolerance):
    one = case(name, p)
    assert abs(evaluate(one, nodes, slopes=False)[0] - brute_force(one)) < tolerance


@pytest.mark.parametrize("name", ["logit", "probit", "cloglog"])
def test_integral_of_ones_and_zeros(name):
    one = case(name, 1, bernoulli=True, spread=2.0)
    assert abs(evaluate(one, 61)[0] - brute_force(one)) < 1e-9


def test_integral_without_log_concavity():
    one = case("gaussian log", 1, seed=3, sizes=(6, 9, 12), spread=0.4)
    assert abs(evaluate(one, 61)[0] - brute_force(one)) < 1e-8


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_gaussian_has_a_closed_form(p, nodes):
    one = case("gaussian", p)
    rows, exact = one.rows, 0.0
    for low, high in zip(rows.row_start[:-1], rows.row_start[1:], strict=True):
        if high > low:
            part = slice(low, high)
            A, noise = rows.Z[part] @ one.T, PHI**2 / rows.weights[part]
            exact += stats.multivariate_normal(rows.fixed[part], A @ A.T + np.diag(noise)).logpdf(rows.y[part])
            exact += 0.5 * np.log(2.0 * np.pi * noise).sum()
    np.testing.assert_allclose(evaluate(one, nodes)[0], exact, rtol=1e-13)


def test_more_nodes_come_closer():
    one = case("logit", 1, bernoulli=True, spread=1.5)
    exact = brute_force(one)
    errors = [abs(evaluate(one, nodes)[0] - exact) for nodes in (1, 5, 9, 15, 25, 41)]
    assert all(after < 0.5 * before for before, after in zip(errors, errors[1:], strict=False) if before > 1e-11)
    assert errors[0] > 1e-3 and errors[-1] < 1e-10


def differences(one, nodes, step=2e-4):
    """Derivatives in eta of some rows, in T and in the log dispersion: central differences of the fourth order."""

    def slope(at):
        near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
        return (8.0 * near - far) / (12.0 * step)

    def moved(fixed=0.0, T=0.0):
        rows = one.rows._replace(fixed=one.rows.fixed + fixed)
        return evaluate(one._replace(rows=rows, T=one.T + T), nodes, slopes=False)[0]

    def constants(phi):
        arrays = one.rows.code, one.rows.y, one.rows.trials, one.rows.weights, one.rows.fixed, phi
        return row_dispersion(*arrays) - row_log_density(*arrays, np.empty(512))

    def dispersed(h):
        phi = PHI * np.exp(h)
        return evaluate(one, nodes, phi, slopes=False)[0] + constants(phi)

    n, p = len(one.rows.y), one.T.shape[0]
    in_eta = {i: slope(lambda h, i=i: moved(fixed=h * (np.arange(n) == i))) for i in range(0, n, 5)}
    in_T = np.zeros((p, p))
    for a in range(p):
        for d in range(a + 1):
            unit = np.zeros((p, p))
            unit[a, d] = 1.0
            in_T[a, d] = slope(lambda h, unit=unit: moved(T=h * unit))
    return in_eta, in_T, slope(dispersed) if one.name in DISPERSED else None


def check_gradient(one, nodes):
    _, d_eta, d_T, d_phi, _ = evaluate(one, nodes)
    in_eta, in_T, in_phi = differences(one, nodes)
    scale = max(1.0, np.abs(in_T).max())
    np.testing.assert_allclose(d_eta[list(in_eta)], list(in_eta.values()), atol=1e-9 * scale, rtol=1e-8)
    np.testing.assert_allclose(d_T, in_T, atol=1e-9 * scale, rtol=1e-8)
    if in_phi is not None:
        np.testing.assert_allclose(d_phi.sum(), in_phi, atol=1e-9 * scale, rtol=1e-8)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("p,nodes", [(1, 1), (1, 3), (1, 11), (2, 1), (2, 5), (2, 11), (3, 1), (3, 3), (3, 5)])
def test_gradient(name, p, nodes):
    check_gradient(case(name, p), nodes)


@pytest.mark.parametrize("nodes", [1, 5])
@pytest.mark.parametrize("zeros", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_singular_covariance(zeros, nodes):
    """Columns of T that are zero: a value, a gradient, and no dependence on the sign of what is left."""
    one = case("logit", 3)
    for k in zeros:
        one.T[:, k] = 0.0
    check_gradient(one, nodes)
    value, _, d_T, _, levels = evaluate(one, nodes)
    # the objective is even in each column: at a zero column it has no slope
    assert np.abs(d_T[:, list(zeros)]).max() < 1e-10
    assert np.abs(levels.u[:, list(zeros)]).max() == 0.0
    kept = [k for k in range(3) if k not in zeros]
    if kept and len(zeros) < 3 and nodes == 1:
        reduced = one.rows._replace(Z=np.ascontiguousarray(one.rows.Z @ one.T[:, kept]))
        direct = evaluate(Case("logit", reduced, np.eye(len(kept))), nodes)[0]
        np.testing.assert_allclose(value, direct, rtol=1e-13)


def test_no_spread_is_no_random_effect():
    one = case("poisson", 2)
    value = evaluate(one._replace(T=np.zeros((2, 2))), 5)[0]
    rows = one.rows
    eta_terms = log_density("poisson", rows.y, rows.trials, rows.fixed, 1.0) @ rows.weights
    np.testing.assert_allclose(value, eta_terms, rtol=1e-13)


@pytest.mark.parametrize("name", ["logit", "gamma"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_even_in_the_columns(name, column):
    one = case(name, 3)
    other = one._replace(T=one.T * np.where(np.arange(3) == column, -1.0, 1.0))
    value, d_eta, d_T, _, levels = evaluate(one, 5)
    again, d_eta_again, d_T_again, _, levels_again = evaluate(other, 5)
    np.testing.assert_allclose(again, value, rtol=1e-13)
    np.testing.assert_allclose(d_eta_again, d_eta, rtol=1e-10, atol=1e-12)
    sign = np.where(np.arange(3) == column, -1.0, 1.0)
    np.testing.assert_allclose(d_T_again, d_T * sign, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(levels_again.u @ other.T.T, levels.u @ one.T.T, rtol=1e-9, atol=1e-12)


def separated(spread):
    """Levels of ones only and of zeros only, as many rows as make undamped steps fly apart, and fixed parts far out."""
    sizes = np.array([400, 400, 30, 1000])
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    n = start[-1]
    y = np.repeat([1.0, 0.0, 1.0, 0.0], sizes)
    fixed = np.repeat([-9.0, 7.0, 12.0, -15.0], sizes)
    rows = FactorRows(CODES["logit"], start, y, np.ones(n), np.ones(n), fixed, np.ones((n, 1)))
    return Case("logit", rows, np.array([[spread]]))


@pytest.mark.parametrize("spread", [0.5, 4.0, 40.0])
@pytest.mark.parametrize("warm", [0.0, 30.0, -30.0])
def test_separation(spread, warm):
    one = separated(spread)
    levels = Levels(np.full((4, 1), warm), np.zeros((4, 1, 1)))
    value, d_eta, *_ = evaluate(one, 1, levels=levels)
    group = np.repeat(np.arange(4), np.diff(one.rows.row_start))
    eta = one.rows.fixed + spread * levels.u[group, 0]
    score = np.bincount(group, one.rows.y - special.expit(eta))
    left = np.abs(spread * score - levels.u[:, 0])
    # the search ends with a step below 1e-10 in units of the curvature's root
    assert (left <= 1e-10 * levels.L[:, 0, 0] + 1e-12 * np.abs(levels.u[:, 0])).all()
    curvature = 1.0 + spread**2 * np.bincount(group, special.expit(eta) * special.expit(-eta))
    np.testing.assert_allclose(levels.L[:, 0, 0], np.sqrt(curvature), rtol=1e-8)
    peak = log_density("logit", one.rows.y, one.rows.trials, eta, 1.0).sum() - 0.5 * (levels.u**2).sum()
    np.testing.assert_allclose(value, peak - 0.5 * np.log(curvature).sum(), rtol=1e-12)
    assert np.isfinite(d_eta).all()


def test_undamped_steps_would_diverge():
    """What the damping is for: from zero, full Newton steps on one of these levels leave every bound."""
    fixed, spread, n, u = -9.0, 4.0, 400, 0.0
    largest = 0.0
    for _ in range(50):
        p = special.expit(fixed + spread * u)
        u += (spread * n * (1.0 - p) - u) / (1.0 + spread**2 * n * p * (1.0 - p))
        largest = max(largest, abs(u))
    assert largest > 500.0


@pytest.mark.parametrize("name", ["poisson", "gaussian log", "negative binomial"])
def test_the_start_does_not_matter(name):
    one = case(name, 2)
    value, d_eta, d_T, _, levels = evaluate(one, 5)
    far = Levels(levels.u + np.array([2.0, -1.5]), levels.L.copy())
    again, d_eta_again, d_T_again, *_ = evaluate(one, 5, levels=far)
    np.testing.assert_allclose(again, value, rtol=1e-12)
    np.testing.assert_allclose(d_eta_again, d_eta, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(d_T_again, d_T, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["poisson", "cloglog", "gamma"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_start_from_where_exp_is_huge(name, sign):
    """Newton's steps come back from there by one in eta at a time; the search begins again at zero."""
    one = case(name, 1)
    far = Levels(np.full((6, 1), sign * 400.0 / one.T[0, 0]), np.zeros((6, 1, 1)))
    np.testing.assert_allclose(evaluate(one, 5, levels=far)[0], evaluate(one, 5)[0], rtol=1e-12)


def test_curvature_that_is_not_positive_definite():
    """With a log link a Gaussian response far above its mean has l'' > 0: the search starts there, and gets away."""
    y = np.array([20.0, 22.0, 19.0, 35.0, 33.0])
    rows = FactorRows(
        CODES["gaussian log"], np.array([0, 3, 5]), y, np.ones(5), np.ones(5), np.zeros(5), np.ones((5, 1))
    )
    one = Case("gaussian log", rows, np.array([[2.0]]))
    assert 1.0 + 2.0**2 * (2.0 - y[:3]).sum() < 0.0  # the curvature at u = 0, up to sigma²
    value, *_, levels = evaluate(one, 31, phi=1.0)
    np.testing.assert_allclose(np.exp(2.0 * levels.u[:, 0]), [y[:3].mean(), y[3:].mean()], rtol=1e-3)
    assert abs(value - brute_force(one, phi=1.0)) < 1e-9
    assert (levels.L[:, 0, 0] > 0.0).all()


def test_parts_add_up_to_the_whole():
    """Ranges of levels (one thread each), and more levels and rows than one block holds, a level larger than a block."""
    rng = np.random.default_rng(5)
    one = case("logit", 2, sizes=(*rng.integers(0, 9, 300), 700, *rng.integers(0, 9, 200)))
    J = len(one.rows.row_start) - 1
    value, d_eta, d_T, *_ = evaluate(one, 3)
    parts = [evaluate(one, 3, part=part) for part in ((0, 1), (1, 299), (299, 301), (301, J))]
    np.testing.assert_allclose(sum(part[0] for part in parts), value, rtol=1e-13)
    np.testing.assert_allclose(sum(part[1] for part in parts), d_eta, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sum(part[2] for part in parts), d_T, rtol=1e-11, atol=1e-12)
    assert evaluate(one, 3, slopes=False)[0] == pytest.approx(value, rel=1e-13)


def test_what_has_no_value_is_nan():
    one = case("poisson", 1)
    far = one._replace(rows=one.rows._replace(fixed=one.rows.fixed + 800.0))
    assert np.isnan(evaluate(far, 5)[0])
    missing = one._replace(rows=one.rows._replace(y=np.full_like(one.rows.y, np.nan)))
    assert np.isnan(evaluate(missing, 5)[0])


def test_nodes_that_overflow_weigh_nothing():
    """Counts of zero leave the mode's neighbourhood wide: far nodes reach eta beyond 709, where exp is infinite."""
    rows = FactorRows(
        CODES["poisson"], np.array([0, 1]), np.zeros(1), np.ones(1), np.ones(1), np.zeros(1), np.ones((1, 1))
    )
    one = Case("poisson", rows, np.array([[2000.0]]))
    value, d_eta, d_T, *_ = evaluate(one, 101)
    assert np.isfinite([value, d_eta[0], d_T[0, 0]]).all()
