"""Covariance blocks: coordinates and priors in the kernels against finite differences and `bayou.binding`."""

import numba
import numpy as np
import pytest

from bayou.binding import BlockPrior, log_density_block
from bayou.effects.iid import (
    coordinates_from_factor,
    factor_from_coordinates,
    log_prior,
    tabulate,
    trace_inverse,
)
from bayou.priors import (
    PC,
    Exponential,
    FlatSD,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGamma,
    OfPrecision,
    OfVariance,
    Uniform,
)

SD_PRIORS = [
    HalfNormal(1.5),
    HalfT(3, 0.7),
    HalfCauchy(2),
    Exponential(0.8),
    PC(2, 0.05),
    Uniform(0.01, 20),
    FlatSD(),
    Gamma(1.5, 0.4),
    InverseGamma(1.5, 0.4),
    OfVariance(HalfNormal(2)),
    OfPrecision(Exponential(0.3)),
]


def sds_block(p, priors, lkj=1.7):
    codes = np.array([prior.code for prior in priors])
    numbers = np.array([prior.parameters for prior in priors], dtype=float)
    return BlockPrior(0, tuple(range(p)), "sds", 0.0, np.zeros((p, p)), np.zeros(p), codes, numbers, lkj)


def matrix_block(kind, p):
    scale = np.eye(p) + 0.3 * np.ones((p, p)) if kind == "inverse_wishart" else np.zeros((p, p))
    A = np.arange(1.0, p + 1) if kind == "huang_wand" else np.zeros(p)
    none = np.zeros(p, dtype=np.int64)
    return BlockPrior(0, tuple(range(p)), kind, p + 1.5, scale, A, none, np.zeros((p, 3)), 0.0)


def blocks(p):
    out = [matrix_block("inverse_wishart", p), matrix_block("huang_wand", p)]
    if p == 1:
        return out + [sds_block(1, [prior]) for prior in SD_PRIORS]
    rotated = [(SD_PRIORS * 2)[i : i + p] for i in range(len(SD_PRIORS))]
    return out + [sds_block(p, chosen, lkj) for chosen, lkj in zip(rotated, np.linspace(0.6, 3, 20), strict=False)]


def random_factor(p, rng):
    A = rng.standard_normal((p, p + 2))
    return np.linalg.cholesky(A @ A.T)


def lower(Sigma):
    return Sigma[np.tril_indices(len(Sigma))]


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_coordinates_there_and_back(p, rng):
    for _ in range(10):
        L = random_factor(p, rng)
        t = coordinates_from_factor(L)
        assert t.shape == (p * (p + 1) // 2,)
        back = np.zeros((p, p))
        padded = np.concatenate([[np.nan], t])
        assert np.isfinite(factor_from_coordinates(padded, 1, p, back))
        np.testing.assert_allclose(np.tril(back), L, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_jacobian_of_the_coordinates(p, rng):
    """log |d Sigma / d t| by central differences, up to the constant 2^p and the like."""
    q = p * (p + 1) // 2

    def covariance(t):
        L = np.zeros((p, p))
        factor_from_coordinates(t, 0, p, L)
        return lower(np.tril(L) @ np.tril(L).T)

    gaps = []
    for _ in range(8):
        t = coordinates_from_factor(random_factor(p, rng))
        J = np.empty((q, q))
        for k in range(q):
            h = 1e-5 * np.eye(q)[k]
            J[:, k] = (covariance(t + h) - covariance(t - h)) / 2e-5
        gaps.append(factor_from_coordinates(t, 0, p, np.zeros((p, p))) - np.linalg.slogdet(J)[1])
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-6)


def test_coordinates_at_the_edge():
    L = np.zeros((2, 2))
    for t in ([0.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [np.nan, 1.0, 0.0], [1e200, 1.0, 0.0], [1.0, 1.0, 1e4]):
        assert factor_from_coordinates(np.array(t), 0, 2, L) == -np.inf
    # a correlation a hair from one is no edge
    assert np.isfinite(factor_from_coordinates(np.array([1.0, 1.0, 15.0]), 0, 2, L))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_log_prior_is_the_density_of_binding(p, rng):
    for block in blocks(p):
        table = tabulate([block])
        gaps = []
        for _ in range(6):
            L = random_factor(p, rng)
            work = np.zeros((p, p))
            gaps.append(log_prior(table, 0, L, work) - log_density_block(block, L @ L.T))
        np.testing.assert_allclose(gaps, gaps[0], atol=1e-8, err_msg=str(block))


def test_log_prior_outside_the_support():
    for L in ([[-1.0]], [[0.0]], [[np.nan]]):
        for block in blocks(1):
            assert log_prior(tabulate([block]), 0, np.array(L), np.zeros((1, 1))) == -np.inf
    block = sds_block(1, [Uniform(1, 2)])
    assert log_prior(tabulate([block]), 0, np.array([[2.5]]), np.zeros((1, 1))) == -np.inf


def test_table_pads_to_the_largest_block():
    table = tabulate([matrix_block("huang_wand", 1), matrix_block("inverse_wishart", 3)])
    assert table.scale.shape == (2, 3, 3)
    assert table.size.tolist() == [1, 3]
    assert tabulate([]).A.shape[0] == 0


@pytest.mark.parametrize("p", [1, 2, 3])
def test_trace_inverse(p, rng):
    call = numba.njit(lambda S, inverse, p: trace_inverse(S, inverse, p))
    L, S = random_factor(p, rng), random_factor(p, rng)
    S = S @ S.T
    found = call(S, np.linalg.inv(L), p)
    np.testing.assert_allclose(found, np.trace(S @ np.linalg.inv(L @ L.T)), rtol=1e-10)
