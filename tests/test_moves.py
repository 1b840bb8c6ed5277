"""Moves of covariances and scales, each alone: it must leave its target as it is.

Proper priors: many independent replicates of (parameter from the prior, data given it, some moves given the
data). A valid move leaves the parameter distributed as the prior, so that every function of it has the same mean
before and after (Gandy & Scott 2020, after Geweke 2004). Improper priors: against quadrature.
"""

import numpy as np
import pytest
from scipy.integrate import quad

from bayou.binding import draw_block as draw_from_prior
from bayou.effects.iid import tabulate
from bayou.engines.covariances import precision_from_factors
from bayou.engines.moves import draw_block, draw_scale, propose_factor, slice_factor
from bayou.jit import kernel
from bayou.priors import Flat, FlatSD, Gamma, InverseGamma, Jeffreys, OfVariance
from oracle import standard_errors_from_zero
from test_iid import SD_PRIORS, matrix_block, sds_block

CONJUGATE, SLICED, WHITENED_SLICES, WHITENED_JOINT = range(4)
LEVELS, NOISE = 4, 0.7


@kernel(entry=True)
def replicate(blocks, move, steps, before, z, noise, after, rng):
    """From covariance factors ``before`` (N, p, p): data given them, then ``steps`` moves given the data."""
    N, J, p = z.shape
    q = p * (p + 1) // 2
    work = np.zeros((7, q + 1, q + 1))
    vectors = np.zeros((4, q + 1))
    scatter = np.zeros((p, p))
    for n in range(N):
        L = after[n]
        for i in range(p):
            for k in range(i + 1):
                L[i, k] = before[n, i, k]
        g, M = vectors[0], work[0]
        g[:] = 0.0
        M[:, :] = 0.0
        if move < WHITENED_SLICES:
            for i in range(p):
                for k in range(p):
                    scatter[i, k] = 0.0
            b = vectors[1]
            for j in range(J):
                for i in range(p):
                    b[i] = 0.0
                    for k in range(i + 1):
                        b[i] += L[i, k] * z[n, j, k]
                for i in range(p):
                    for k in range(p):
                        scatter[i, k] += b[i] * b[k]
        else:
            # y_j = L z_j + noise: quadratic in L
            w = 1.0 / (NOISE * NOISE)
            for j in range(J):
                a = 0
                for i in range(p):
                    for k in range(i + 1):
                        g[a] += w * NOISE * noise[n, j, i] * z[n, j, k]
                        c = 0
                        for i2 in range(p):
                            for k2 in range(i2 + 1):
                                if i == i2:
                                    M[a, c] += w * z[n, j, k] * z[n, j, k2]
                                c += 1
                        a += 1
        for _ in range(steps):
            if move == CONJUGATE:
                work[2][:, :] = 0.0
                if not draw_block(blocks, 0, float(J), scatter, L, work[3:6], work[2], rng):
                    return False
            elif move == SLICED:
                slice_factor(blocks, 0, L, float(J), scatter, g, M, q, work[1], rng)
            elif move == WHITENED_SLICES:
                slice_factor(blocks, 0, L, 0.0, work[2], g, M, q, work[1], rng)
            else:
                for i in range(p):
                    for k in range(i + 1):
                        work[6, i, k] = L[i, k]
                if not propose_factor(blocks, 0, L, g, M, work[2], work[3], work[4], vectors[1], rng):
                    return False
                # g belongs to the current L
                a = 0
                for i in range(p):
                    for k in range(i + 1):
                        vectors[2, a] = L[i, k] - work[6, i, k]
                        a += 1
                for a in range(q):
                    for c in range(q):
                        g[a] -= M[a, c] * vectors[2, c]
    return True


def functions(L):
    """Log sds, their squares, correlations and their squares, of lower factors (N, p, p)."""
    L = np.tril(L)
    Sigma = L @ L.transpose(0, 2, 1)
    sd = np.sqrt(np.diagonal(Sigma, axis1=1, axis2=2))
    i, k = np.tril_indices(L.shape[1], -1)
    cor = (Sigma / sd[:, :, None] / sd[:, None, :])[:, i, k]
    log = np.log(sd)
    mixed = cor * log[:, i] if len(i) else cor
    return np.hstack([log, log**2, np.exp(-sd), cor, cor**2, mixed])


REPLICATES = 8_000
DRAWN = {}  # factors from each prior, for all moves


def prior_factors(block):
    key = str(block)
    if key not in DRAWN:
        rng = np.random.default_rng(7)
        DRAWN[key] = np.linalg.cholesky(np.stack([draw_from_prior(block, rng) for _ in range(REPLICATES)]))
    return DRAWN[key]


def check(block, move, rng, steps=2):
    p = len(block.columns)
    before = prior_factors(block)
    N = len(before)
    after = np.zeros_like(before)
    z, noise = rng.standard_normal((2, N, LEVELS, p))
    assert replicate(tabulate([block]), move, steps, before, z, noise, after, rng)
    gap = standard_errors_from_zero(functions(after) - functions(before))
    moved = np.mean(np.abs(functions(after) - functions(before)) > 0, axis=0)
    assert moved.min() > 0.03, f"{block.kind}: the move hardly moves"
    assert np.abs(gap).max() < 4.2, f"{block}: {np.round(gap, 1)}"


PROPER = [prior for prior in SD_PRIORS if prior.proper]
MOVES = {
    "conjugate or sliced": CONJUGATE,
    "sliced": SLICED,
    "whitened slices": WHITENED_SLICES,
    "whitened at once": WHITENED_JOINT,
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("kind", ["inverse_wishart", "huang_wand", "sds"])
def test_moves_keep_the_prior(move, p, kind, rng):
    if kind == "sds":
        check(sds_block(p, PROPER[:p]), MOVES[move], rng)
    else:
        check(matrix_block(kind, p), MOVES[move], rng)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("prior", PROPER, ids=str)
def test_every_prior_of_an_sd(move, prior, rng):
    check(sds_block(1, [prior]), MOVES[move], rng)


@pytest.mark.parametrize("lkj", [0.5, 1.0, 4.0])
def test_correlations_of_every_concentration(lkj, rng):
    check(sds_block(2, PROPER[:2], lkj), SLICED, rng)
    check(sds_block(2, PROPER[:2], lkj), WHITENED_SLICES, rng)


@kernel(entry=True)
def scales(s, n, squares, code, parameters, out, rng):
    """A chain of `draw_scale`, or with many values of ``squares`` independent replicates."""
    for i in range(out.shape[0]):
        if squares.shape[0] > 1:
            out[i] = draw_scale(s[i], n, squares[i], code, parameters, rng)
        else:
            s[0] = draw_scale(s[0], n, squares[0], code, parameters, rng)
            out[i] = s[0]


@pytest.mark.parametrize("prior", PROPER, ids=str)
def test_draw_scale_keeps_the_prior(prior, rng):
    N, n = 40_000, 3
    s = prior.sd_draw(rng, N)
    squares = s**2 * rng.chisquare(n, N)
    out = np.empty(N)
    scales(s.copy(), float(n), squares, prior.code, np.array(prior.parameters, dtype=float), out, rng)
    pairs = [f(out) - f(s) for f in (np.log, lambda x: np.log(x) ** 2, lambda x: np.exp(-x))]
    assert np.abs(standard_errors_from_zero(np.column_stack(pairs))).max() < 4


@pytest.mark.parametrize(
    "prior", [Flat(), FlatSD(), Jeffreys(), OfVariance(Flat()), Gamma(2, 3), InverseGamma(2, 3), *PROPER[:3]], ids=str
)
def test_draw_scale_against_quadrature(prior, rng):
    n, squares = 6.0, 9.0
    numbers = np.array(prior.parameters, dtype=float)

    def density(t):
        s = np.exp(t)
        return np.exp(-n * t - 0.5 * squares / s**2 + float(prior.sd_log_density(s)) + t)

    total = quad(density, -3, 8, limit=200)[0]
    mean = quad(lambda t: t * density(t), -3, 8, limit=200)[0] / total
    second = quad(lambda t: t * t * density(t), -3, 8, limit=200)[0] / total
    out = np.empty(100_000)
    scales(np.ones(1), n, np.array([squares]), prior.code, numbers, out, rng)
    t = np.log(out[::5])
    sd = np.sqrt(second - mean**2)
    assert abs(t.mean() - mean) < 4.5 * sd / np.sqrt(len(t))
    assert abs(t.std() / sd - 1) < 0.03


def test_precision_from_factors(rng):
    a, b = matrix_block("huang_wand", 2), sds_block(1, PROPER[:1])
    blocks = tabulate([a, b])._replace(start=np.array([0, 2]), grouping=np.array([0, 0]))
    L = np.zeros((2, 2, 2))
    L[0] = [[1.5, 9.0], [-0.4, 0.7]]  # what stands above the diagonal is not read
    L[1, 0, 0] = 3.0
    Q = np.full((1, 3, 3), np.nan)
    assert precision_from_factors(blocks, L, Q, np.zeros((2, 3, 3)))
    lower = np.tril(L[0])
    expected = np.zeros((3, 3))
    expected[:2, :2] = np.linalg.inv(lower @ lower.T)
    expected[2, 2] = 1 / 9
    np.testing.assert_allclose(Q[0], expected, rtol=1e-12)
    L[1, 0, 0] = 0.0
    assert not precision_from_factors(blocks, L, Q, np.zeros((2, 3, 3)))
