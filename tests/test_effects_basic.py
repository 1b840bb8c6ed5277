"""Structured effects against dense algebra: walks, areas, known covariances, blocks of groups."""

import numpy as np
import pytest

from bayou.effects.areal import Icar, Neighbourhood, Proximity
from bayou.effects.bym2 import Bym2
from bayou.effects.exchangeable import Exchangeable
from bayou.effects.known import Known
from bayou.effects.random_walk import RandomWalk
from bayou.errors import DataError
from dense_effects import check_draws, check_effect, covariance

EVEN = np.arange(12.0)
UNEVEN = np.array([0.0, 0.7, 1.0, 2.5, 2.6, 4.0, 7.0, 7.5])
# two parts, a triangle with a tail and a path, and two single areas (3 and 9)
EDGES = np.array([[0, 1], [0, 2], [1, 2], [2, 4], [5, 6], [6, 7], [7, 8]])
GRAPH = Neighbourhood(10, EDGES)
WEIGHTED = Neighbourhood(10, EDGES, np.array([1.0, 0.5, 2.0, 1.5, 0.3, 1.0, 4.0]))


def geometric_mean(v):
    return np.exp(np.log(v).mean())


WALKS = {
    f"rw{order} {name} {scaled} {constrained} {cyclic}": RandomWalk(order, t, cyclic, period, scaled, constrained, 2)
    for order in (1, 2)
    for name, t, cyclic, period in (
        ("even", EVEN, False, None),
        ("uneven", UNEVEN, False, None),
        ("circle", EVEN, True, None),
        ("uneven circle", UNEVEN, True, 9.0),
    )
    for scaled in (True, False)
    for constrained in (True, False)
}


@pytest.mark.parametrize("name", WALKS)
def test_walks(name, rng):
    effect = WALKS[name]
    check_effect(effect, [0.4])
    check_draws(effect, [0.4], rng)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("t", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_open_walks_by_their_increments(order, t):
    """Q of the unscaled walk from the definition of the increments, one by one."""
    m, d = len(t), np.diff(t)
    Q = np.zeros((m, m))
    if order == 1:
        for i in range(m - 1):
            a = np.zeros(m)
            a[[i, i + 1]] = -1, 1
            Q += np.outer(a, a) / d[i]
    else:
        for i in range(1, m - 1):
            a = np.zeros(m)
            a[i - 1 : i + 2] = 1 / d[i - 1], -1 / d[i - 1] - 1 / d[i], 1 / d[i]
            Q += np.outer(a, a) * 2 / (d[i - 1] + d[i])
    walk = RandomWalk(order, t, scaled=False)
    np.testing.assert_allclose(walk.dense(np.log([2.0])), Q / 4, atol=1e-12 * Q.max())
    line = np.vander(t, order)
    assert np.abs(Q @ line).max() < 1e-10 * Q.max()
    np.testing.assert_allclose(
        np.linalg.norm(walk.null_basis(np.zeros(1)).T @ line), np.linalg.norm(line), rtol=1e-12
    )


def test_even_walk_of_order_2_is_the_textbook_matrix():
    Q = RandomWalk(2, np.arange(5.0), scaled=False).dense(np.zeros(1))
    expected = [[1, -2, 1, 0, 0], [-2, 5, -4, 1, 0], [1, -4, 6, -4, 1], [0, 1, -4, 5, -2], [0, 0, 1, -2, 1]]
    np.testing.assert_allclose(Q, expected, atol=1e-13)


@pytest.mark.parametrize("order", [1, 2])
def test_circles_are_circulant(order):
    Q = RandomWalk(order, EVEN + 3, cyclic=True).dense(np.zeros(1))
    for k in range(len(Q)):
        np.testing.assert_allclose(np.roll(np.roll(Q, k, 0), k, 1), Q, atol=1e-12 * Q.max())
    # the same circle written with its period
    again = RandomWalk(order, EVEN + 3, cyclic=True, period=12.0).dense(np.zeros(1))
    np.testing.assert_allclose(again, Q, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("cyclic", [False, True])
@pytest.mark.parametrize("t", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_sd_is_the_geometric_mean_of_marginal_sds(order, cyclic, t):
    walk = RandomWalk(order, t, cyclic, 12.0 if cyclic else None)
    V = np.linalg.pinv(walk.dense(np.log([3.0])), rcond=1e-9, hermitian=True)
    np.testing.assert_allclose(geometric_mean(V.diagonal()), 9.0, rtol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("cyclic", [False, True])
def test_ten_thousand_points(order, cyclic):
    """The determinant has a closed form there; the scaled variances tend to those of the continuous process."""
    m = 10_000
    walk = RandomWalk(order, np.arange(float(m)), cyclic, scaled=False)
    log_det = walk.log_determinant(np.zeros(1))
    if cyclic:
        expected = 2 * order * np.log(m)
    else:
        expected = np.log(m) if order == 1 else np.log(m) * 2 + np.log((m**2 - 1) / 12.0)
    np.testing.assert_allclose(log_det, expected, rtol=1e-9)
    small = RandomWalk(order, np.arange(float(m // 20)), cyclic).unit / (m / 20) ** (2 * order - 1)
    large = RandomWalk(order, np.arange(float(m)), cyclic).unit / m ** (2 * order - 1)
    np.testing.assert_allclose(large, small, rtol=0.02)
    if cyclic and order == 1:
        np.testing.assert_allclose(large, (m * m - 1) / 12 / m / m, rtol=1e-9)


@pytest.mark.parametrize("graph", [GRAPH, WEIGHTED], ids=["plain", "weighted"])
@pytest.mark.parametrize("scaled", [True, False])
def test_intrinsic_areas(graph, scaled, rng):
    effect = Icar(graph, scaled, replicates=2)
    check_effect(effect, [-0.3])
    check_draws(effect, [-0.3], rng)
    assert len(effect.constraints) == 2
    assert not effect.constraints[:, [3, 9]].any()
    V = effect.covariance(np.zeros(1)).diagonal()
    np.testing.assert_allclose(V[[3, 9]], 1.0)
    for part in ([0, 1, 2, 4], [5, 6, 7, 8]):
        if scaled:
            np.testing.assert_allclose(geometric_mean(V[part]), 1.0, rtol=1e-9)
    if not scaled:
        Q = np.zeros((10, 10))
        weights = graph.W.toarray()
        Q = np.diag(weights.sum(1)) - weights
        Q[3, 3] = Q[9, 9] = 1.0
        np.testing.assert_allclose(effect.dense(np.log([2.0])), Q / 4)


@pytest.mark.parametrize("kind", ["car", "leroux"])
@pytest.mark.parametrize("graph", [GRAPH, WEIGHTED], ids=["plain", "weighted"])
@pytest.mark.parametrize("t", [-3.0, 0.2, 6.0])
def test_proper_areas(kind, graph, t, rng):
    effect = Proximity(kind, graph, replicates=3)
    check_effect(effect, [0.7, t])
    check_draws(effect, [0.7, t], rng)
    W = graph.W.toarray()
    rho = 1 / (1 + np.exp(-t))
    D = np.diag(np.where(W.sum(1) > 0, W.sum(1), 1.0))
    Q = D - rho * W if kind == "car" else (1 - rho) * np.eye(10) + rho * (D - W)
    np.testing.assert_allclose(effect.dense(np.array([0.7, t])), Q * np.exp(-1.4), rtol=1e-12)


def test_leroux_without_rho_is_independence():
    V = Proximity("leroux", GRAPH).covariance(np.array([np.log(1.7), -45.0]))
    np.testing.assert_allclose(V, 1.7**2 * np.eye(10), atol=1e-14)


@pytest.mark.parametrize("kind", ["car", "leroux"])
def test_large_graphs_by_a_factor(kind, monkeypatch):
    """The sparse log determinant and its slope are those of the eigenvalues."""
    small = Proximity(kind, WEIGHTED)
    monkeypatch.setattr("bayou.effects.areal.DENSE", 5)
    large = Proximity(kind, WEIGHTED)
    for t in (-4.0, 0.0, 3.0, 9.0):
        theta = np.array([0.3, t])
        np.testing.assert_allclose(large.log_determinant(theta), small.log_determinant(theta), rtol=1e-10)
        slope = large.log_determinant_slopes(theta)
        np.testing.assert_allclose(slope, small.log_determinant_slopes(theta), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("t", [-2.0, 0.5, 4.0])
def test_bym2(scaled, t, rng):
    effect = Bym2(WEIGHTED, scaled, replicates=2)
    theta = np.array([np.log(1.4), t])
    check_effect(effect, theta, rtol=1e-7)
    check_draws(effect, theta, rng)
    # the marginal covariance of f by its definition
    phi = 1 / (1 + np.exp(-t))
    R = Icar(WEIGHTED, scaled)
    V = 1.4**2 * ((1 - phi) * np.eye(10) + phi * R.covariance(np.zeros(1)))
    found = covariance(effect.dense(theta), effect.constraints)
    np.testing.assert_allclose(found[:10, :10], V, atol=1e-8)


def test_bym2_total_variance():
    """sd is the marginal sd of f at both ends of phi."""
    graph = Neighbourhood(30, np.column_stack([np.arange(29), np.arange(1, 30)]))
    effect = Bym2(graph)
    v = effect.covariance(np.array([np.log(2.0), 40.0]))[:30, :30].diagonal()
    np.testing.assert_allclose(geometric_mean(v), 4.0, rtol=1e-6)
    v = effect.covariance(np.array([np.log(2.0), -40.0]))[:30, :30].diagonal()
    np.testing.assert_allclose(v, 4.0, rtol=1e-6)


def pedigree(rng, m=40):
    """Numerator relationships of random parents."""
    A = np.eye(m)
    for i in range(6, m):
        s, d = rng.choice(i, 2, replace=False)
        A[i, :i] = A[:i, i] = 0.5 * (A[s, :i] + A[d, :i])
        A[i, i] = 1 + 0.5 * A[s, d]
    return A


def test_known(rng):
    A = pedigree(rng)
    for effect in (Known(covariance=A), Known(precision=np.linalg.inv(A))):
        check_effect(effect, [0.2])
        np.testing.assert_allclose(effect.covariance(np.log([3.0])), 9 * A, atol=1e-10)
    effect = Known(covariance=A, replicates=1)
    check_draws(effect, [0.2], rng)
    # the inverse of a pedigree ties an animal to its parents and its mates
    assert len(effect.indices) < 0.3 * 40 * 41 / 2


def test_known_is_not_definite(rng):
    A = pedigree(rng)
    A[3, 5] = A[5, 3] = 4.0
    smallest = np.linalg.eigvalsh(A)[0]
    for how in ({"covariance": A}, {"precision": A}):
        with pytest.raises(DataError, match=f"{next(iter(how))} is not positive definite.*{smallest:.4g}"):
            Known(**how)
    twins = np.ones((2, 2))
    with pytest.raises(DataError, match="duplicates"):
        Known(covariance=twins)


@pytest.mark.parametrize("kind", ["car", "leroux", "bym2", "ar1", "gaps"])
@pytest.mark.parametrize("t", [-400.0, -40.0, 40.0, 400.0])
def test_far_out_there_are_numbers_still(kind, t):
    from bayou.effects.autoregressive import Autoregressive

    if kind in ("ar1", "gaps"):
        effect = Autoregressive(EVEN if kind == "ar1" else np.cumsum([1.0, 0.7, 0.33, 1.9]))
    else:
        effect = Bym2(GRAPH) if kind == "bym2" else Proximity(kind, GRAPH)
    for s in (-100.0, 0.0, 100.0):
        theta = np.array([s, t])
        assert np.isfinite(effect.coefficients(theta)).all()
        assert np.isfinite(effect.coefficient_slopes(theta)).all()
        assert np.isfinite(effect.log_determinant(theta))
        assert np.isfinite(effect.log_determinant_slopes(theta)).all()


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_blocks_of_groups(p, rng):
    effect = Exchangeable(tuple("abcd"[:p]), 5)
    theta = 0.7 * rng.standard_normal(p * (p + 1) // 2)
    check_effect(effect, theta)
    check_draws(effect, theta, rng)
    Sigma = effect.sigma(theta)
    np.testing.assert_allclose(np.linalg.inv(effect.dense(theta)), Sigma, rtol=1e-9)
    np.testing.assert_allclose(effect.internal(Sigma), theta, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(Sigma.diagonal()), np.exp(theta[:p]))


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_jacobian_of_a_block(p, rng):
    effect = Exchangeable(tuple("abcd"[:p]), 5)
    theta = 0.7 * rng.standard_normal(p * (p + 1) // 2)
    low = np.tril_indices(p)

    def lower(t):
        return effect.sigma(t)[low]

    h = 1e-5
    J = np.stack([(lower(theta + h * e) - lower(theta - h * e)) / (2 * h) for e in np.eye(len(theta))], axis=1)
    np.testing.assert_allclose(effect.log_jacobian(theta), np.linalg.slogdet(J)[1], atol=1e-7)


def test_coordinates_of_a_block_are_those_of_the_samplers(rng):
    from bayou.effects.iid import coordinates_from_factor

    effect = Exchangeable(("a", "b", "c"), 2)
    theta = 0.5 * rng.standard_normal(6)
    other = coordinates_from_factor(effect.factor(theta))
    np.testing.assert_allclose(2 * np.log(other[:3]), theta[:3], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other[3:], theta[3:], rtol=1e-9)


def test_a_lattice_of_ten_thousand():
    side = 100
    at = np.arange(side * side).reshape(side, side)
    edges = np.vstack([np.column_stack([at[:, :-1].ravel(), at[:, 1:].ravel()]), np.column_stack([at[:-1].ravel(), at[1:].ravel()])])
    effect = Icar(Neighbourhood(side * side, edges), scaled=False)
    k = 2 - 2 * np.cos(np.pi * np.arange(side) / side)
    values = (k[:, None] + k).ravel()[1:]
    np.testing.assert_allclose(effect.log_determinant(np.zeros(1)), np.log(values).sum(), rtol=1e-10)
    V = effect.inverse.diagonal()
    assert V.shape == (side * side,)
    scaled = Icar(effect.graph)
    np.testing.assert_allclose(
        scaled.log_determinant(np.zeros(1)) - effect.log_determinant(np.zeros(1)),
        (side * side - 1) * np.log(scaled.scales[0]),
        rtol=1e-10,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomWalk(2, np.array([0.0, 1.0])), "at least 3 distinct points"),
        (lambda: RandomWalk(1, np.array([0.0, 0.0, 1.0])), "increasing"),
        (lambda: RandomWalk(1, UNEVEN, cyclic=True), "period="),
        (lambda: RandomWalk(1, UNEVEN, cyclic=True, period=7.0), "above the span"),
        (lambda: Neighbourhood(3, np.array([[0, 3]])), "pairs of different nodes"),
        (lambda: Neighbourhood(3, np.array([[0, 1]]), np.array([-1.0])), "not negative"),
        (lambda: Known(), "one of the two"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(DataError, match=message):
        make()
