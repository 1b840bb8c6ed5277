"""Autoregressions, seasons and splines against dense algebra, and every structure of time at new times."""

import numpy as np
import pytest

from bayou.effects.autoregressive import Autoregressive, distinct
from bayou.effects.random_walk import RandomWalk
from bayou.effects.seasonal import Seasonal
from bayou.effects.spline import Spline
from bayou.errors import DataError, Unsupported
from dense_effects import check_draws, check_effect, null_of

EVEN = np.arange(12.0)
GAPS = np.array([0.0, 1.0, 2.0, 5.0, 6.0, 10.0, 13.0])  # whole numbers
QUARTERS = 7.0 + 0.25 * GAPS
ANY = np.array([0.0, 0.7, 1.0, 2.5, 2.6, 4.0, 7.0, 7.5])
IRREGULAR = np.array([0.0, 0.7, 1.0, 2.53, 2.63, 4.0, 7.0, 7.52])


@pytest.mark.parametrize("t", [EVEN, GAPS, QUARTERS], ids=["even", "gaps", "quarters"])
@pytest.mark.parametrize("rho", [0.7, -0.4, 1e-9, 0.0, 0.999])
def test_autoregression(t, rho, rng):
    effect = Autoregressive(t, replicates=2)
    assert effect.hyperparameters[1].scale == "atanh"
    theta = np.array([0.3, np.arctanh(rho)])
    check_effect(effect, theta)
    check_draws(effect, theta, rng)
    unit = 0.25 if t is QUARTERS else 1.0
    with np.errstate(invalid="ignore"):
        V = np.exp(0.6) * np.power(rho, np.rint(np.abs(np.subtract.outer(t, t)) / unit))
    np.testing.assert_allclose(effect.covariance(theta), V, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.98])
def test_autoregression_over_any_gaps(rho, rng):
    effect = Autoregressive(IRREGULAR)
    assert effect.hyperparameters[1].scale == "logit"
    theta = np.array([-0.2, effect.hyperparameters[1].internal(rho)])
    check_effect(effect, theta)
    check_draws(effect, theta, rng)
    V = np.exp(-0.4) * rho ** (np.abs(np.subtract.outer(IRREGULAR, IRREGULAR)) / 0.1)
    np.testing.assert_allclose(effect.covariance(theta), V, rtol=1e-6, atol=1e-12)


def test_autoregression_near_one_keeps_its_digits():
    effect = Autoregressive(GAPS)
    t = 15.0  # 1 − rho² = 4 exp(−30)
    left = 1.0 - np.tanh(t) ** 2
    assert left < 1e-12
    expected = -np.log(4 * np.exp(-2 * t) * np.diff(GAPS)).sum()  # 1 − rho^2d -> d (1 − rho²)
    np.testing.assert_allclose(effect.log_determinant(np.array([0.0, t])), expected, rtol=1e-10)


def test_autoregression_has_limits():
    rng = np.random.default_rng(1)
    with pytest.raises(Unsupported, match="different gaps"):
        Autoregressive(np.cumsum(rng.uniform(0.1, 1, 6000)))
    assert Autoregressive(np.arange(10_000.0)).matrices.shape == (3, 19_999)
    found, which = distinct(np.array([0.3, 1.0, 0.1 + 0.2, 2.0]))
    np.testing.assert_allclose(found, [0.3, 1.0, 2.0])
    np.testing.assert_array_equal(which, [0, 1, 0, 2])


@pytest.mark.parametrize("m", [8, 12, 17])
@pytest.mark.parametrize("period", [2, 4, 7])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("constrained", [True, False])
def test_seasons(m, period, scaled, constrained, rng):
    effect = Seasonal(np.arange(m) + 5.0, period, scaled, constrained, replicates=2)
    check_effect(effect, [0.5])
    check_draws(effect, [0.5], rng)
    D = np.array([np.eye(m)[i : i + period].sum(0) for i in range(m - period + 1)])
    Q = effect.dense(np.zeros(1))
    if scaled:
        V = np.linalg.pinv(Q, rcond=1e-9, hermitian=True)
        np.testing.assert_allclose(np.exp(np.log(V.diagonal()).mean()), 1.0, rtol=1e-9)
    else:
        np.testing.assert_allclose(Q, D.T @ D, atol=1e-12)
    # what is free repeats, and adds up to zero over every season
    pattern = effect.free_basis(np.zeros(1))
    assert np.abs(D @ pattern).max(initial=0.0) < 1e-10
    if not constrained:
        assert pattern.shape[1] == period - 1


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("constrained", [True, False])
def test_splines(order, scaled, constrained, rng):
    effect = Spline(14, order, scaled, constrained, replicates=3)
    check_effect(effect, [0.5])
    check_draws(effect, [0.5], rng)
    assert effect.null == order - constrained
    D = np.diff(np.eye(14), order, axis=0)
    Q = effect.dense(np.zeros(1))
    if not scaled:
        np.testing.assert_allclose(Q, D.T @ D, atol=1e-12)
    else:
        V = np.linalg.pinv(Q, rcond=1e-9, hermitian=True)
        np.testing.assert_allclose(np.exp(np.log(V.diagonal()).mean()), 1.0)


# ---- at new times --------------------------------------------------------------------------------

NEW = np.array([-2.0, 0.35, 1.0, 3.9, 9.0, 9.0, 15.0])


def brownian(order, old, new, sd):
    """Mean weights and covariance at new times of the integrated Wiener process given values at old ones."""
    t = np.concatenate([old, new])
    m = len(old)
    start = t.min() - 1.0

    def kernel(s, u):
        if order == 1:
            return min(s, u)
        low = min(s, u)
        return low * low * (3 * max(s, u) - low) / 6

    K = np.array([[kernel(a - start, b - start) for b in t] for a in t])
    # a flat prior of level (and slope): a large variance of each
    for k in range(order):
        K = K + 1e5 * np.outer((t - start) ** k, (t - start) ** k)
    W = np.linalg.solve(K[:m, :m], K[:m, m:]).T
    V = K[m:, m:] - W @ K[:m, m:]
    return W, sd**2 * V


def test_walk_of_order_1_is_a_brownian_bridge():
    walk = RandomWalk(1, ANY, scaled=False)
    W, V = walk.extend_mean(np.log([1.3]), NEW)
    expected, spread = brownian(1, ANY, NEW, 1.3)
    np.testing.assert_allclose(W, expected, atol=1e-4)
    np.testing.assert_allclose(V, spread, atol=1e-3)
    # between 2.6 and 4.0, exactly
    np.testing.assert_allclose(W[3, 4:6], [0.1 / 1.4, 1.3 / 1.4], rtol=1e-12)
    np.testing.assert_allclose(V[3, 3], 1.69 * 1.3 * 0.1 / 1.4, rtol=1e-12)
    # beyond: the last value, with variance the distance
    np.testing.assert_allclose(W[6], np.eye(8)[7], atol=1e-12)
    np.testing.assert_allclose([V[6, 6], V[4, 4], V[0, 0]], 1.69 * np.array([7.5, 1.5, 2.0]), rtol=1e-12)


def test_walk_of_order_2_goes_on_along_its_line():
    t = np.linspace(0, 7.5, 31)
    walk = RandomWalk(2, t, scaled=False)
    new = np.array([-1.0, 8.0, 9.0, 12.0])
    W, V = walk.extend_mean(np.zeros(1), new)
    np.testing.assert_allclose(W @ (2 + 3 * t), 2 + 3 * new, rtol=1e-9)
    assert np.all(np.diff(V.diagonal()[1:]) > 0)
    # n steps of d beyond: slopes gain N(0, d) each, so that the variance is d³ (1 + 4 + … + n²)
    n = np.array([4, 2, 6, 18])
    np.testing.assert_allclose(V.diagonal(), 0.25**3 * n * (n + 1) * (2 * n + 1) / 6, rtol=1e-8)
    # whatever else is asked for
    np.testing.assert_allclose(walk.extend_mean(np.zeros(1), new[3:])[1][0, 0], V[3, 3], rtol=1e-8)


def test_walk_of_order_2_between_its_nodes():
    """Given its neighbours a point follows the cubic, nearly: exactly what the structure on all points says."""
    walk = RandomWalk(2, ANY, scaled=False)
    new = np.array([0.35, 3.0, 3.5])
    W, V = walk.extend_mean(np.log([2.0]), new)
    t = np.concatenate([ANY, new])
    order = np.argsort(t)
    Q = np.empty((11, 11))
    Q[np.ix_(order, order)] = RandomWalk(2, t[order], scaled=False).dense(np.log([2.0]))
    np.testing.assert_allclose(V, np.linalg.inv(Q[8:, 8:]), rtol=1e-9)
    np.testing.assert_allclose(W, -np.linalg.solve(Q[8:, 8:], Q[8:, :8]), atol=1e-9)


@pytest.mark.parametrize("rho", [0.9, 0.4])
def test_autoregression_at_new_times_is_exact_conditioning(rho):
    effect = Autoregressive(IRREGULAR)
    theta = np.array([np.log(1.5), effect.hyperparameters[1].internal(rho)])
    W, V = effect.extend_mean(theta, NEW)
    t = np.concatenate([IRREGULAR, NEW])
    K = 2.25 * rho ** (np.abs(np.subtract.outer(t, t)) / 0.1)
    m = len(IRREGULAR)
    expected = np.linalg.solve(K[:m, :m], K[:m, m:]).T
    np.testing.assert_allclose(W, expected, atol=1e-8)
    np.testing.assert_allclose(V, K[m:, m:] - expected @ K[:m, m:], atol=1e-8)
    assert V[2].any() is np.False_  # 1.0 is a node
    np.testing.assert_allclose(V[4, 4], V[4, 5])  # the same new time twice is one value
    assert V[6, 6] > V[4, 4]  # wider farther out


@pytest.mark.parametrize("nodes", [np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 0.7, 1.9, 4.0])])
def test_draws_of_autoregressions_each_with_its_own_theta(nodes, rng):
    """Without noise they are the conditional mean; each normal number alone gives a root of the covariance."""
    effect = Autoregressive(nodes)
    new = np.array([5.0, -2.0, 2.0, 1.0 if effect.whole else 0.7, 6.0, 2.5, -1.0])
    thetas = np.column_stack([rng.normal(size=5), rng.uniform(0.1, 3.0, 5)])
    f = rng.normal(size=(5, 4))
    means = effect.extend_each(thetas, f, new, np.zeros((5, 7)))
    roots = np.array([effect.extend_each(thetas, 0.0 * f, new, np.tile(row, (5, 1))) for row in np.eye(7)])
    for k, theta in enumerate(thetas):
        W, V = effect.extend_mean(theta, new)
        assert np.allclose(means[k], W @ f[k], rtol=1e-10, atol=1e-12)
        assert np.allclose(roots[:, k].T @ roots[:, k], V, rtol=1e-9, atol=1e-12)


def test_negative_rho_has_whole_steps():
    effect = Autoregressive(GAPS)
    theta = np.array([0.0, np.arctanh(-0.6)])
    W, V = effect.extend_mean(theta, np.array([3.0, 14.0, 16.0]))
    np.testing.assert_allclose(W[1:, -1], [-0.6, -0.216], rtol=1e-9)
    np.testing.assert_allclose(V.diagonal()[1:], [1 - 0.36, 1 - 0.6**6], rtol=1e-9)
    t = np.append(GAPS, 3.0)
    K = (-0.6) ** np.abs(np.subtract.outer(t, t))
    np.testing.assert_allclose(W[0], np.linalg.solve(K[:-1, :-1], K[:-1, -1]), atol=1e-9)
    with pytest.raises(DataError, match="whole steps"):
        effect.extend_mean(theta, np.array([3.5]))
    assert effect.extend_mean(np.array([0.0, 1.0]), np.array([3.5]))[1] > 0


def test_season_goes_on():
    effect = Seasonal(np.arange(12.0), 4, scaled=False)
    pattern = np.array([1.0, -2.0, 0.5, 0.5])
    new = np.array([12.0, 15.0, 21.0, -3.0])
    W, V = effect.extend_mean(np.log([0.7]), new)
    np.testing.assert_allclose(W @ pattern[np.arange(12) % 4], pattern[new.astype(int) % 4], atol=1e-9)
    # x_12 = −(x_9 + x_10 + x_11) + noise, and x_16 has the noise of x_12 in it
    np.testing.assert_allclose(V[0, 0], 0.49, rtol=1e-9)
    np.testing.assert_allclose(W[0], -np.isin(np.arange(12), [9, 10, 11]).astype(float), atol=1e-9)
    assert V[2, 2] > V[0, 0]
    with pytest.raises(DataError, match="whole times"):
        effect.extend_mean(np.zeros(1), np.array([1.5]))


def test_circles_wrap_around():
    walk = RandomWalk(1, ANY, cyclic=True, period=9.0, scaled=False)
    W, V = walk.extend_mean(np.zeros(1), np.array([8.5, 17.5, -0.5, 9.7]))
    np.testing.assert_allclose(W[0], W[1])
    np.testing.assert_allclose(W[0], W[2])
    np.testing.assert_allclose(W[0, [0, 7]], [1 / 1.5, 0.5 / 1.5], rtol=1e-9)
    np.testing.assert_allclose(W[3], np.eye(8)[1], atol=1e-9)
    np.testing.assert_allclose(V[0, 0], 1.0 * 0.5 / 1.5, rtol=1e-9)


def test_draws_at_new_times(rng):
    walk = RandomWalk(1, ANY)
    theta = np.array([0.2])
    f = rng.standard_normal((20_000, len(ANY)))
    W, V = walk.extend_mean(theta, NEW)
    draws = walk.extend(theta, f, NEW, rng)
    residual = draws - f @ W.T
    assert draws.shape == (20_000, len(NEW))
    error = np.sqrt((V**2 + np.outer(V.diagonal(), V.diagonal())) / 20_000)
    assert np.all(np.abs(residual.T @ residual / 20_000 - V) <= 5 * error + 1e-9)
    with pytest.raises(Unsupported, match="no values at other places"):
        Spline(8).extend(theta, f[:, :8], NEW, rng)
    with pytest.raises(DataError, match="finite"):
        walk.extend(theta, f, np.array([np.nan]), rng)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Autoregressive(np.array([1.0])), "at least 2"),
        (lambda: Seasonal(np.arange(12.0), 1), "at least 2"),
        (lambda: Seasonal(np.arange(12.0), 12), "at least 13"),
        (lambda: Seasonal(GAPS, 3), "consecutive"),
        (lambda: Spline(2), "at least 3"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_free_directions_are_what_is_said():
    """rw2 reproduces a line at no cost; the constraint takes the level alone."""
    walk = RandomWalk(2, ANY)
    line = 2.0 - 0.3 * ANY
    assert abs(line @ walk.dense(np.zeros(1)) @ line) < 1e-10
    free = walk.free_basis(np.zeros(1))
    centred = ANY - ANY.mean()
    np.testing.assert_allclose(np.abs(free[:, 0]), np.abs(centred) / np.linalg.norm(centred), atol=1e-10)
    assert null_of(np.vstack([walk.dense(np.zeros(1)), walk.constraints])).shape[1] == 1
